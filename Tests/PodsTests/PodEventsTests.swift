import Errors
import Logging
import Support
import Testing

@testable import Pods
@testable import Runtime

@Suite struct PodEventsTests {
    private static func container(_ id: String, in sandbox: String, _ state: ContainerState) -> ContainerSnapshot {
        ContainerSnapshot(
            id: id, sandboxID: sandbox, spec: ContainerSpec(metadata: .init(name: id, attempt: 0), image: "i"), imageID: "i", state: state,
            createdAt: Int64(id.utf8.first ?? 0), logPath: "", stopSignal: 15)
    }

    private static let exit = ContainerState.exited(startedAt: 1, ContainerExit(code: 0, finishedAt: 2, reason: "Completed"))

    /// The first `count` events as "kind id".
    private static func collect(_ count: Int, from stream: AsyncThrowingStream<PodEvent, any Error>) async throws -> [String] {
        var seen: [String] = []
        for try await event in stream {
            seen.append("\(event.kind) \(event.id)")
            if seen.count == count { break }
        }
        return seen
    }

    @Test func aSandboxTellsOfItsWholeLife() async throws {
        let node = try await FakeNode()
        let events = node.registry.events()
        let id = try await node.registry.runSandbox(FakeNode.spec())
        try await node.registry.stopSandbox(id)
        try await node.registry.stopSandbox(id)
        try await node.registry.removeSandbox(id)
        #expect(try await Self.collect(4, from: events) == ["created \(id)", "started \(id)", "stopped \(id)", "deleted \(id)"])
        await node.close()
    }

    @Test func aStartThatFailsEndsWithADeletion() async throws {
        let node = try await FakeNode()
        node.handler.inject(.failMachine)
        let events = node.registry.events()
        await #expect(throws: SwiftletError.self) { try await node.registry.runSandbox(FakeNode.spec()) }
        let kinds = try await Self.collect(3, from: events).map { $0.prefix { $0 != " " } }
        #expect(kinds == ["created", "stopped", "deleted"])
        await node.close()
    }

    @Test func anEventShowsThePodAsListsDo() async throws {
        let snapshots = Snapshots(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        var sandbox = SandboxSnapshot(id: "p", spec: FakeNode.spec(), state: .ready(.attached(.sample)), createdAt: 1)
        snapshots.publish(sandbox)
        let events = snapshots.events.watch()
        snapshots.publish(Self.container("a", in: "p", .created))
        snapshots.publish(Self.container("b", in: "p", .created))
        snapshots.publish(Self.container("other", in: "q", .created))
        snapshots.publish(Self.container("a", in: "p", .running(startedAt: 1)))
        snapshots.publish(Self.container("a", in: "p", .running(startedAt: 1)))
        snapshots.publish(Self.container("a", in: "p", Self.exit))
        snapshots.withdraw(container: "a")
        snapshots.withdraw(container: "a")
        sandbox.state = .stopping(nil)
        snapshots.publish(sandbox)
        sandbox.state = .stopped
        snapshots.publish(sandbox)
        snapshots.withdraw(sandbox: "p")
        snapshots.events.close()
        var seen: [String] = []
        await #expect(throws: SwiftletError.self) {
            for try await event in events {
                let states = event.containers.map { "\($0.snapshot.id)=\($0.snapshot.state.name)" }.joined(separator: ",")
                seen.append("\(event.kind) \(event.id) \(event.sandbox?.state.name ?? "-") \(states)")
            }
        }
        #expect(
            seen == [
                "created a ready a=created", "created b ready a=created,b=created", "created other - ",
                "started a ready a=running,b=created", "stopped a ready a=exited,b=created", "deleted a ready b=created",
                "stopped p stopped b=created", "deleted p stopped b=created",
            ])
    }

    @Test func whatAnEarlierDaemonLeftIsNoNews() async throws {
        let snapshots = Snapshots(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let events = snapshots.events.watch()
        snapshots.publish(SandboxSnapshot(id: "p", spec: FakeNode.spec(), state: .ready(.attached(.sample)), createdAt: 1))
        snapshots.publish(Self.container("a", in: "p", .running(startedAt: 1)))
        snapshots.publish(Self.container("a", in: "p", Self.exit))
        #expect(try await Self.collect(1, from: events) == ["stopped a"])
    }

    @Test func aSlowWatcherLosesItsStreamAndNobodyWaits() async throws {
        let hub = PodEvents(capacity: 2)
        let slow = hub.watch()
        let event = PodEvent(id: "a", kind: .created, time: 1, sandbox: nil, containers: [])
        for _ in 0..<3 { hub.send(event) }
        #expect(hub.watchers == 0)
        var seen = 0
        let error = await #expect(throws: SwiftletError.self) {
            for try await _ in slow { seen += 1 }
        }
        #expect(error?.code == .resourceExhausted && seen == 2)
        let next = hub.watch()
        hub.send(event)
        #expect(try await Self.collect(1, from: next) == ["created a"])
    }

    @Test func theLogNamesEachStepOfALifeOnce() {
        let log = RecordedLog()
        let snapshots = Snapshots(logger: Logger(label: "test") { _ in log.handler })
        var sandbox = SandboxSnapshot(
            id: "p", spec: SandboxSpec(metadata: .init(name: "web", uid: "u", namespace: "default", attempt: 0)), state: .reserved,
            createdAt: 1)
        for state in [.reserved, .starting(nil, phase: "a"), .starting(nil, phase: "b"), .ready(.node), .ready(.node)] as [SandboxState] {
            sandbox.state = state
            snapshots.publish(sandbox)
        }
        for state in [.created, .running(startedAt: 1), Self.exit, Self.exit] as [ContainerState] {
            snapshots.publish(Self.container("c", in: "p", state))
        }
        snapshots.withdraw(container: "c")
        for state in [.stopping(nil), .stopped] as [SandboxState] {
            sandbox.state = state
            snapshots.publish(sandbox)
        }
        snapshots.withdraw(sandbox: "p")
        // What a restarted daemon takes over is no news.
        snapshots.publish(sandbox)
        let steps = [
            "pod sandbox starting", "pod sandbox ready", "container created", "container running", "container exited", "container removed",
            "pod sandbox stopping", "pod sandbox stopped", "pod sandbox removed",
        ]
        #expect(log.lines.count == steps.count)
        for (line, step) in zip(log.lines, steps) { #expect(line.contains(step) && line.contains(step.hasPrefix("pod") ? "web" : "c")) }
    }
}
