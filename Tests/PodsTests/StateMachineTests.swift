import Errors
import Support
import Testing

@testable import Pods
@testable import Runtime

@Suite struct SandboxStateMachineTests {
    private static let network = SandboxNetwork.attached(.sample)
    private static let states: [SandboxState] = [
        .reserved, .starting(nil, phase: "a"), .starting(network, phase: "b"), .starting(.node, phase: "b"), .ready(network),
        .paused(network),
        .stopping(network), .stopping(nil), .stopped, .failed(step: "x"), .removed,
    ]
    private static let events: [SandboxStateMachine.Event] = [
        .attached(network), .phase("c"), .started, .paused, .resumed, .failed(step: "x"), .stopRequested, .released, .removeRequested,
    ]

    @Test func aStartPassesEveryStateInOrder() throws {
        var machine = SandboxStateMachine()
        #expect(try machine.handle(.phase("booting")) == .nothing)
        #expect(machine.state == .starting(nil, phase: "booting"))
        #expect(throws: SwiftletError.self, "a sandbox without a network is not ready") { try machine.handle(.started) }
        #expect(try machine.handle(.attached(Self.network)) == .nothing)
        #expect(machine.state == .starting(Self.network, phase: "booting"))
        #expect(try machine.handle(.started) == .nothing)
        #expect(machine.state == .ready(Self.network))
        #expect(try machine.handle(.paused) == .nothing)
        #expect(try machine.handle(.resumed) == .nothing)
        #expect(machine.state == .ready(Self.network))
        #expect(try machine.handle(.stopRequested) == .release)
        #expect(try machine.handle(.released) == .nothing)
        #expect(try machine.handle(.removeRequested) == .forget)
        #expect(machine.state == .removed)
    }

    @Test(arguments: states) func noEventLeavesTheTableOfTransitions(_ state: SandboxState) {
        for event in Self.events {
            var machine = SandboxStateMachine(state: state)
            if (try? machine.handle(event)) != nil, machine.state != state {
                #expect(state.allows(machine.state), "\(state.name) to \(machine.state.name)")
            } else {
                #expect(machine.state == state)
            }
        }
    }

    /// A StopPodSandbox may meet a RemovePodSandbox that has just ended.
    @Test(arguments: states) func aStopNeverFails(_ state: SandboxState) throws {
        var machine = SandboxStateMachine(state: state)
        let action = try machine.handle(.stopRequested)
        #expect(action == (state == .stopped || state == .removed ? .nothing : .release))
        #expect(machine.state == .removed || state != .removed)
    }

    @Test func randomWalksNeverReachReadyWithoutANetwork() {
        var random = SplitMix(variable: "STATE_WALK_SEED")
        for walk in 0..<2000 {
            var machine = SandboxStateMachine()
            var attached = false
            for _ in 0..<12 {
                guard let event = Self.events.randomElement(using: &random) else { return }
                let before = machine.state
                if (try? machine.handle(event)) != nil, case .attached = event { attached = true }
                if case .ready = machine.state { #expect(attached, "walk \(walk), STATE_WALK_SEED=\(random.seed)") }
                if case .removed = before { #expect(machine.state == .removed) }
            }
        }
    }
}

@Suite struct ContainerStateMachineTests {
    private let exit = ContainerExit(code: 3, finishedAt: 9, reason: "Error")

    @Test func aContainerRunsOnceAndExitsOnce() throws {
        var machine = ContainerStateMachine()
        #expect(try machine.handle(.started(at: 5)))
        #expect(throws: SwiftletError.self) { try machine.handle(.started(at: 6)) }
        #expect(throws: SwiftletError.self) { try machine.handle(.removeRequested) }
        #expect(try machine.handle(.exited(exit)))
        #expect(machine.state == .exited(startedAt: 5, exit))
        #expect(try machine.handle(.exited(ContainerExit(code: 9, finishedAt: 10, reason: "x"))) == false)
        #expect(machine.state.exit == exit)
        #expect(try machine.handle(.removeRequested))
        #expect(machine.state == .removed)
    }

    @Test func aFailedStartExitsWithoutHavingRun() throws {
        var machine = ContainerStateMachine()
        #expect(try machine.handle(.exited(exit)))
        #expect(machine.state.startedAt == 0)
    }
}

@Suite struct SignalNameTests {
    @Test(arguments: [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("SIGWINCH", 28)])
    func namesAndNumbersAreUnderstood(_ text: String, _ number: Int32) throws {
        #expect(try SignalName.number(of: text) == number)
    }

    @Test(arguments: ["", "SIG", "SIGFOO", "0", "65", "-1", "RTMIN+99", "RTMAX--1"])
    func unknownSignalsAreRefused(_ text: String) {
        #expect(throws: SwiftletError.self) { try SignalName.number(of: text) }
    }
}

@Suite struct IdentifierTests {
    @Test func idsAre64HexadecimalDigits() throws {
        let ids = (0..<100).map { _ in Identifier.make() }
        #expect(Set(ids).count == 100)
        for id in ids {
            #expect(id.count == 64)
            try Identifier.check(id, of: "x")
        }
    }

    @Test(arguments: ["", "../../etc", "ABC", "a\u{0}b", String(repeating: "a", count: 10000), "a b", "ä"])
    func anythingElseIsRefused(_ id: String) {
        let error = #expect(throws: SwiftletError.self) { try Identifier.check(id, of: "container") }
        #expect(error?.code == .invalidArgument)
        #expect((error?.message.utf8.count ?? 0) < 300)
    }
}
