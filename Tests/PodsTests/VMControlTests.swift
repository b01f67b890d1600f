import Errors
import Foundation
import MachineFakes
import Machines
import Runtime
import Testing

@testable import NativeVMRuntime
@testable import Pods

/// What an operator does to a VM pod's machine, on a hypervisor without machines.
@Suite(.enabled(if: geteuid() == 0, "machines run as users of their own"), .timeLimit(.minutes(1))) struct VMControlTests {
    /// A machine that runs, of an earlier daemon.
    private static func withMachine(button: PowerButton? = nil, _ body: (VMGround) async throws -> Void) async throws {
        try await VMGround.with(button: button) { ground in
            let (sandbox, _) = try await ground.daemon().run(["swiftlet/vcpus": "2"])
            sandbox.close()
            try await body(ground)
        }
    }

    private static func next(_ halts: inout AsyncStream<SandboxHalt?>.Iterator, where isRight: (SandboxHalt?) -> Bool) async {
        while let halt = await halts.next(), !isRight(halt) {}
    }

    @Test func aPauseIsSaidKeptOverARestartAndEndedByAResume() async throws {
        try await Self.withMachine { ground in
            let first = try await ground.daemon().reattach()
            #expect(try await first.describeMachine(withXML: true).state == .running)
            var halts = first.halts().makeAsyncIterator()
            try await first.pause()
            try await first.pause()
            await Self.next(&halts) { $0?.reason.contains("is paused") == true }
            #expect(try ground.saved().pausedAt != nil)
            let refused = await #expect(throws: SwiftletError.self) { try await first.reboot(within: .seconds(10)) }
            #expect(refused?.code == .failedPrecondition && ground.hypervisor.calls(.reboot).isEmpty)
            first.close()

            let second = try await ground.daemon().reattach()
            halts = second.halts().makeAsyncIterator()
            await Self.next(&halts) { $0?.reason.contains("is paused") == true }
            let description = try await second.describeMachine(withXML: false)
            #expect(description.state == .paused && description.xml == nil && description.vcpus == 2)
            #expect(description.container == VMGround.container)
            try await second.resume()
            await Self.next(&halts) { $0 == nil }
            #expect(try ground.saved().pausedAt == nil)
            #expect(try await second.describeMachine(withXML: false).state == .running)
            try await second.reboot(within: .seconds(30))
            try await second.reset()
            #expect(ground.hypervisor.calls.suffix(2) == [.reboot(ground.machine), .reset(ground.machine)])
            second.close()
        }
    }

    /// libvirt's word counts: somebody may have used virsh, and a daemon may have ended between its record and the pause.
    @Test func whetherAMachineIsPausedIsLibvirtsWordAfterARestart() async throws {
        try await Self.withMachine { ground in
            try await ground.hypervisor.pause(ground.machine)
            let first = try await ground.daemon().reattach()
            #expect(try ground.saved().pausedAt != nil)
            first.close()
            try await ground.hypervisor.resume(ground.machine)
            let second = try await ground.daemon().reattach()
            #expect(try ground.saved().pausedAt == nil)
            second.close()
        }
    }

    @Test func aMachineThatSomebodyPausesByLibvirtSaysSoUntilItGoesOn() async throws {
        try await Self.withMachine { ground in
            let sandbox = try await ground.daemon().reattach()
            var halts = sandbox.halts().makeAsyncIterator()
            try await ground.hypervisor.pause(ground.machine)
            await Self.next(&halts) { $0?.reason.contains("is paused") == true }
            try await ground.hypervisor.resume(ground.machine)
            await Self.next(&halts) { $0 == nil }
            // What is missed while libvirt is away is found afterwards.
            ground.hypervisor.send(.connectionLost)
            ground.hypervisor.pauseUnseen(ground.machine)
            ground.hypervisor.send(.reconnected)
            await Self.next(&halts) { $0?.reason.contains("is paused") == true }
            sandbox.close()
        }
    }

    @Test func roomOnAFullDiskDoesNotLetAPausedMachineGoOn() async throws {
        try await Self.withMachine { ground in
            let sandbox = try await ground.daemon().reattach()
            var halts = sandbox.halts().makeAsyncIterator()
            try await sandbox.pause()
            // There is room: a machine that is only stopped goes on at the next look, in a second.
            ground.hypervisor.fillDisk(of: ground.machine)
            try await Task.sleep(for: .seconds(2))
            #expect(ground.hypervisor.calls(.resume).isEmpty)
            await Self.next(&halts) { $0?.reason.contains("is paused") == true }
            // It goes on when there is room, not by libvirt's resume.
            try await sandbox.resume()
            await Self.next(&halts) { $0 == nil }
            #expect(ground.hypervisor.calls(.resume) == [.resume(ground.machine)])
            sandbox.close()
        }
    }

    private static let button = PowerButton(pauses: (.milliseconds(40), .milliseconds(20)))

    /// A guest that is still booting misses the first presses.
    @Test func theButtonIsPressedUntilTheGuestReboots() async throws {
        try await Self.withMachine(button: Self.button) { ground in
            let sandbox = try await ground.daemon().reattach()
            ground.hypervisor.ignorePowerButton(of: ground.machine)
            let reboot = Task { try await sandbox.reboot(within: .seconds(50)) }
            while ground.hypervisor.calls(.reboot).count < 4 { try await Task.sleep(for: .milliseconds(5)) }
            ground.hypervisor.ignorePowerButton(of: ground.machine, false)
            try await reboot.value
            let presses = ground.hypervisor.calls(.reboot).count
            #expect(presses > 4)
            try await Task.sleep(for: .milliseconds(200))
            #expect(ground.hypervisor.calls(.reboot).count == presses)
            sandbox.close()
        }
    }

    @Test func aGuestThatDoesNotHeedTheButtonIsSaidWithWhatToDo() async throws {
        try await Self.withMachine(button: Self.button) { ground in
            let sandbox = try await ground.daemon().reattach()
            ground.hypervisor.ignorePowerButton(of: ground.machine)
            let error = await #expect(throws: SwiftletError.self) { try await sandbox.reboot(within: .milliseconds(300)) }
            #expect(error?.code == .deadlineExceeded)
            for words in ["swiftlet vm reset", "acpid", "within 0 s"] { #expect(error?.message.contains(words) == true, "\(words)") }
            let presses = ground.hypervisor.calls(.reboot).count
            #expect(presses > 1)
            try await Task.sleep(for: .milliseconds(200))
            #expect(ground.hypervisor.calls(.reboot).count == presses)
            sandbox.close()
        }
    }

    /// As a machine ends whose policy is to end with a reboot, and one that is reset boots again.
    @Test(arguments: [true, false]) func aRebootIsOverWhenTheMachineEndsOrIsReset(ends: Bool) async throws {
        try await Self.withMachine(button: PowerButton(pauses: (.seconds(50), .seconds(50)))) { ground in
            let sandbox = try await ground.daemon().reattach()
            ground.hypervisor.ignorePowerButton(of: ground.machine)
            let reboot = Task { try await sandbox.reboot(within: .seconds(50)) }
            while ground.hypervisor.calls(.reboot).isEmpty { try await Task.sleep(for: .milliseconds(5)) }
            if ends { ground.hypervisor.end(ground.machine, .reset) } else { try await sandbox.reset() }
            try await reboot.value
            sandbox.close()
        }
    }

    /// A press for a reboot would have libvirt boot a guest again that shuts itself down to be stopped.
    @Test func aStopEndsAReboot() async throws {
        try await Self.withMachine(button: Self.button) { ground in
            let sandbox = try await ground.daemon().reattach()
            ground.hypervisor.ignorePowerButton(of: ground.machine)
            let reboot = Task { try await sandbox.reboot(within: .seconds(50)) }
            while ground.hypervisor.calls(.reboot).isEmpty { try await Task.sleep(for: .milliseconds(5)) }
            try await sandbox.signal(VMGround.container, SIGTERM, all: false)
            let error = await #expect(throws: SwiftletError.self) { try await reboot.value }
            #expect(error?.code == .aborted)
            let presses = ground.hypervisor.calls(.reboot).count
            while ground.hypervisor.calls(.shutdown).count < 4 { try await Task.sleep(for: .milliseconds(5)) }
            #expect(ground.hypervisor.calls(.reboot).count == presses)
            sandbox.close()
        }
    }

    @Test func aPauseThatFailsLeavesNoTrace() async throws {
        try await Self.withMachine { ground in
            let sandbox = try await ground.daemon().reattach()
            ground.hypervisor.inject(.fail(.unavailable), at: .pause)
            let error = await #expect(throws: SwiftletError.self) { try await sandbox.pause() }
            #expect(error?.code == .unavailable)
            #expect(try ground.saved().pausedAt == nil)
            sandbox.close()
        }
    }

    @Test func nothingIsDoneToAMachineThatHasEndedAndItsEndIsKept() async throws {
        try await Self.withMachine { ground in
            let sandbox = try await ground.daemon().reattach()
            try await sandbox.pause()
            ground.hypervisor.end(ground.machine, .poweredOff)
            #expect(try await sandbox.waitForExit(VMGround.container).code == 0)
            let calls: [@Sendable () async throws -> Void] = [
                { try await sandbox.reset() }, { try await sandbox.reboot(within: .seconds(10)) }, { try await sandbox.pause() },
                { try await sandbox.resume() }, { _ = try await sandbox.screenshot() },
                { _ = try await sandbox.describeMachine(withXML: false) },
            ]
            for call in calls {
                let error = await #expect(throws: SwiftletError.self) { try await call() }
                #expect(error?.code == .failedPrecondition && error?.message.contains("does not run") == true)
            }
            let disks = try await sandbox.checkDisks(of: VMGround.container)
            #expect(disks.map(\.serial) == ["root"] && disks.allSatisfy { $0.corruptions == 0 && $0.leaks == 0 }, "\(disks)")
            let saved = try ground.saved()
            #expect(saved.end?.code == 0 && saved.pausedAt != nil)
            sandbox.close()
        }
    }
}

/// What the heart makes of operators' requests.
@Suite(.timeLimit(.minutes(1))) struct MachineRequestTests {
    @Test func podsThatAreNoMachinesAndUnknownIdsAreRefusedByName() async throws {
        try await FakeNode.withPod { node, pod, _ in
            let spec = ContainerSpec(metadata: .init(name: "c", attempt: 0), image: FakeNode.image)
            let container = try await node.registry.createContainer(in: pod, spec)
            try await node.registry.startContainer(container)
            for id in [pod, container, String(container.prefix(13))] {
                let calls: [@Sendable () async throws -> Void] = [
                    { try await node.registry.resetMachine(of: id) }, { try await node.registry.pauseMachine(of: id) },
                    { _ = try await node.registry.screenshot(of: id) }, { _ = try await node.registry.checkDisks(of: id) },
                    { _ = try await node.registry.describeMachine(of: id, withXML: true) },
                ]
                for call in calls {
                    let error = await #expect(throws: SwiftletError.self) { try await call() }
                    #expect(error?.code == .invalidArgument && error?.message.contains("runtime handler is fake") == true)
                }
            }
            for (id, code) in [
                (String(repeating: "0", count: 64), SwiftletError.Code.notFound), ("../x", .invalidArgument), ("", .invalidArgument),
            ] {
                let error = await #expect(throws: SwiftletError.self) { try await node.registry.resetMachine(of: id) }
                #expect(error?.code == code)
            }
        }
    }
}
