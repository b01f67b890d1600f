import Errors
import Foundation
import Linux
import MachineFakes
import Machines
import State
import Support
import Synchronization
import Testing

@testable import NativeVMRuntime
@testable import PodMachine
@testable import Runtime

/// Pods that are virtual machines, on a hypervisor without machines.
@Suite(.enabled(if: geteuid() == 0, "machines run as users of their own"), .timeLimit(.minutes(2))) struct VMSandboxTests {
    private static func release(_ ground: VMGround, _ ledger: Ledger) async -> [PendingRelease] {
        ledger.close()
        return await ledger.releaseAll(by: Releasers(ground.machines.releasers + [ground.configuration.vsock.releaser]))
    }

    @Test func theTPMIsTheContainersAndAMachineThatItHasLeftIsEndedWithTheReason() async throws {
        try await VMGround.with { ground in
            let first = try await ground.daemon()
            let (sandbox, ledger) = try await first.run(["swiftlet/tpm": "true"])
            let tpm = try #require(ledger.entry(.tpm)?.process)
            #expect(tpm.isAlive)
            // It goes into the control group as all that the ledger names, and is released after the machine.
            let order = ledger.entries.map(\.kind)
            #expect(try #require(order.firstIndex(of: .tpm)) < #require(order.firstIndex(of: .machine)))
            #expect(try #require(order.firstIndex(of: .userProcesses)) < #require(order.firstIndex(of: .tpm)))
            let user = try #require(ledger.entry(.user).flatMap { uid_t($0.name) })
            #expect(ProcessTable.running(as: user...user).contains { $0.process == tpm })
            // Also by a daemon that has not started it.
            sandbox.close()
            let second = try await ground.daemon()
            let found = try await second.reattach()
            #expect(try await found.containerStates() == [VMGround.container: .started])
            tpm.kill()
            let exit = try await found.waitForExit(VMGround.container)
            #expect(exit.code == 137 && exit.message.contains("swtpm") && exit.message.contains("\(tpm.pid)"), "\(exit)")
            #expect(ground.hypervisor.running.isEmpty)
            found.close()
            #expect(await Self.release(ground, try await second.ledger()).isEmpty)
            #expect(await Self.release(ground, second.pod).isEmpty)
            #expect(try ground.leaks().isEmpty)
        }
    }

    @Test func aTPMThatEndsWithItsMachineIsNoReason() async throws {
        try await VMGround.with { ground in
            let daemon = try await ground.daemon()
            let (sandbox, ledger) = try await daemon.run(["swiftlet/tpm": "true"])
            ledger.entry(.tpm)?.process?.kill()
            ground.hypervisor.end(ground.names().machine)
            let exit = try await sandbox.waitForExit(VMGround.container)
            #expect(exit.code == 0 && exit.message.isEmpty, "\(exit)")
            #expect(await Self.release(ground, ledger).isEmpty)
        }
    }

    /// What a machine's user can write to is walked through by root.
    @Test func noDirectoryIsRemovedBeforeEachProcessOfItsUserHasEnded() async throws {
        try await VMGround.with { ground in
            let daemon = try await ground.daemon()
            let (_, ledger) = try await daemon.run()
            let user = try #require(ledger.entry(.user).flatMap { uid_t($0.name) })
            let stray = ChildProcess()
            stray.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
            stray.arguments = ["--reuid", "\(user)", "--clear-groups", "sleep", "1000"]
            try stray.run()
            defer { kill(stray.processIdentifier, SIGKILL) }
            try await eventually("it runs") { !ProcessTable.running(as: user...user).isEmpty }
            let running = Mutex<[Int]>([])
            let watched = ResourceReleaser(.directory) { entry in
                running.withLock { $0.append(ProcessTable.running(as: user...user).count) }
                try Directory.remove(entry.name)
            }
            ledger.close()
            let vsock = ground.configuration.vsock.releaser
            #expect(await ledger.releaseAll(by: Releasers([watched, vsock] + ground.machines.releasers)).isEmpty)
            #expect(running.withLock { $0 } == [0, 0])
        }
    }

    @Test func aStartThatFailsLeavesAContainerThatIsForgottenAlsoByTheNextDaemon() async throws {
        try await VMGround.with { ground in
            let first = try await ground.daemon()
            let (sandbox, ledger) = (try await first.start(), try await first.ledger())
            _ = try await sandbox.createContainer(VMGround.container, ground.plan(), ledger: ledger)
            ground.failsToJoin.withLock { $0 = true }
            await #expect(throws: SwiftletError.self) { try await sandbox.startContainer(VMGround.container, ledger: ledger) }
            // As the heart does after it.
            try await sandbox.deleteContainer(VMGround.container)
            #expect(ground.hypervisor.running.isEmpty)
            try await sandbox.deleteContainer(VMGround.container)
            sandbox.close()

            ground.failsToJoin.withLock { $0 = false }
            let second = try await ground.daemon()
            let found = try await second.reattach()
            #expect(try await found.containerStates().isEmpty)
            let error = await #expect(throws: SwiftletError.self) { _ = try await found.waitForExit(VMGround.container) }
            #expect(error?.code == .notFound)
            // Its directory is there until RemoveContainer; the next container has its own.
            let other = String(VMGround.container.reversed())
            let next = try await second.ledger(other)
            _ = try await found.createContainer(other, ground.plan(), ledger: next)
            try await found.startContainer(other, ledger: next)
            #expect(try await found.containerStates() == [other: .started])
            for ledger in [next, try await second.ledger(), second.pod] { #expect(await Self.release(ground, ledger).isEmpty) }
            #expect(try ground.leaks().isEmpty)
        }
    }

    @Test func aStartThatFailsAndCannotBeUndoneIsUndoneByTheNextDaemon() async throws {
        try await VMGround.with { ground in
            let first = try await ground.daemon()
            let (sandbox, ledger) = (try await first.start(), try await first.ledger())
            _ = try await sandbox.createContainer(VMGround.container, ground.plan(), ledger: ledger)
            ground.failsToJoin.withLock { $0 = true }
            ground.hypervisor.inject(.fail(.unavailable), at: .destroy)
            await #expect(throws: SwiftletError.self) { try await sandbox.startContainer(VMGround.container, ledger: ledger) }
            await #expect(throws: SwiftletError.self) { try await sandbox.deleteContainer(VMGround.container) }
            #expect(ground.hypervisor.running.count == 1)
            sandbox.close()

            let second = try await ground.daemon()
            // A libvirt that does not answer proves nothing: it is looked for again.
            await #expect(throws: SwiftletError.self) { _ = try await second.reattach() }
            ground.hypervisor.heal(.destroy)
            let found = try await second.reattach()
            #expect(ground.hypervisor.running.isEmpty)
            #expect(try await found.containerStates() == [VMGround.container: .started])
            let exit = try await found.waitForExit(VMGround.container)
            #expect(exit.code == 137 && exit.message.contains("while it was being started"), "\(exit)")
            for ledger in [try await second.ledger(), second.pod] { #expect(await Self.release(ground, ledger).isEmpty) }
            #expect(try ground.leaks().isEmpty)
        }
    }

    @Test func aStartThatComesThroughAfterItWasGivenUpLeavesNoMachine() async throws {
        try await VMGround.with { ground in
            let daemon = try await ground.daemon()
            let (sandbox, ledger) = (try await daemon.start(), try await daemon.ledger())
            _ = try await sandbox.createContainer(VMGround.container, ground.plan(), ledger: ledger)
            ground.hypervisor.inject(.hold, at: .start)
            let start = Task { try await sandbox.startContainer(VMGround.container, ledger: ledger) }
            try await eventually("the start is under way") { !ground.hypervisor.calls(.start).isEmpty }
            try await sandbox.deleteContainer(VMGround.container)
            ground.hypervisor.heal(.start)
            await #expect(throws: SwiftletError.self) { try await start.value }
            #expect(ground.hypervisor.running.isEmpty)
            #expect(await Self.release(ground, ledger).isEmpty)
        }
    }

    @Test func firmwareThatTheMemoryDoesNotHoldIsRefused() async throws {
        try await VMGround.with { ground in
            let daemon = try await ground.daemon()
            let (sandbox, ledger) = (try await daemon.start(), try await daemon.ledger())
            let plan = try ground.plan(["swiftlet/firmware": "uefi", "swiftlet/memory": "63Mi"])
            let refused = await #expect(throws: SwiftletError.self) {
                try await sandbox.createContainer(VMGround.container, plan, ledger: ledger)
            }
            #expect(refused?.code == .invalidArgument && refused?.message.contains("64 MiB") == true, "\(String(describing: refused))")
            #expect(await Self.release(ground, ledger).isEmpty)
        }
    }

    @Test func libvirtsLogGoesWithTheMachine() async throws {
        try await VMGround.with { ground in
            let daemon = try await ground.daemon()
            let (sandbox, ledger) = try await daemon.run()
            ground.hypervisor.end(ground.names().machine, .failed(lastWords: "word"))
            #expect(try await sandbox.waitForExit(VMGround.container).message.contains("word"))
            #expect(ground.hypervisor.calls(.removeLog).isEmpty)
            #expect(await Self.release(ground, ledger).isEmpty)
            #expect(ground.hypervisor.calls(.removeLog) == [.removeLog(ground.names().domain)])
        }
    }

    /// A node whose records and ledgers are gone.
    @Test func whatNoRecordListsIsFoundAndReleasedWhole() async throws {
        try await VMGround.with { ground in
            let first = try await ground.daemon()
            let (sandbox, _) = try await first.run(["swiftlet/tpm": "true"])
            sandbox.close()
            #expect(try ground.leaks().count > 4)
            let second = try await ground.daemon(state: "other")
            let others = try await second.handler.leftovers { $0.hasPrefix(VMGround.pod.prefix(13)) }
            #expect(others.isEmpty)
            ground.hypervisor.inject(.fail(.unavailable), at: .machines)
            await #expect(throws: SwiftletError.self) { _ = try await second.handler.leftovers { _ in false } }
            ground.hypervisor.heal(.machines)
            let found = try await second.handler.leftovers { _ in false }
            let kinds: Set<ResourceKind> = [
                .directory, .tap, .machine, .tpm, .share, .shareDaemon, .userProcesses, .vsockDevice, .volumeFile,
            ]
            #expect(Set(found.map(\.kind)) == kinds)
            let entries = found.enumerated().map { index, leftover in
                LedgerEntry(
                    owner: "lost", kind: leftover.kind, name: leftover.name, document: leftover.document, sequence: Int64(index))
            }
            #expect(await Self.release(ground, Ledger(owner: "lost", database: second.database, entries: entries)).isEmpty)
            #expect(try ground.leaks().isEmpty)
            let left = try await second.handler.leftovers { _ in false }
            #expect(left.isEmpty)
        }
    }
}
