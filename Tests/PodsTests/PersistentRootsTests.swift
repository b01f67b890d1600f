import CloudInit
import Errors
import Foundation
import Linux
import Machines
import State
import Support
import Synchronization
import Testing
import Volumes

@testable import NativeVMRuntime
@testable import PodMachine
@testable import Runtime

/// Whose a root disk is, and the copies that make one.
@Suite(.timeLimit(.minutes(1))) struct PersistentRootsTests {
    private let disk = RootDiskKey(name: "device 1", description: "device /dev/one")

    private final class Runs: Sendable {
        let count = Mutex(0)
        let mayEnd = Mutex(false)
        let failure: SwiftletError?

        init(_ failure: SwiftletError? = nil) { self.failure = failure }

        @Sendable func work() async throws {
            count.withLock { $0 += 1 }
            while !mayEnd.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(5)) }
            if let failure { throw failure }
        }
        func end() { mayEnd.withLock { $0 = true } }
    }

    private func code(_ body: () async throws -> Void) async -> SwiftletError.Code? {
        do {
            try await body()
            return nil
        } catch {
            return (error as? SwiftletError)?.code ?? .unknown
        }
    }

    private func root(
        _ devices: [(String, String)] = [], mounts: [(String, Bool)] = [], _ annotations: [String: String] = [:]
    ) throws -> PersistentRoot? {
        var spec = ContainerSpec(metadata: .init(name: "c", attempt: 0), image: "image")
        spec.security.devices = devices.map { ContainerDevice(hostPath: "/dev/host", containerPath: $0.0, access: $0.1) }
        spec.mounts = mounts.map { path, readOnly in
            var mount = ContainerMount(containerPath: path)
            (mount.hostPath, mount.readOnly) = ("/host\(path)", readOnly)
            return mount
        }
        return try PersistentRoot(of: spec, try VMAnnotations(pod: annotations))
    }

    @Test func aRootIsADeviceAtTheTopOrAMountThatAnAnnotationNames() throws {
        #expect(try root([("/dev/data", "rw")]) == nil)
        guard case .device(let device) = try root([("/dev/data", "rw"), ("/", "mrw")]) else { throw TestFailure() }
        #expect(device.containerPath == "/")
        let named = ["swiftlet/root-volume": "/disk/"]
        guard case .file(let mount) = try root(mounts: [("/etc", true), ("/disk", false)], named) else { throw TestFailure() }
        #expect(mount.hostPath == "/host/disk")
        let refused: [(SwiftletError.Code, () throws -> PersistentRoot?)] = [
            (.failedPrecondition, { try root([("/", "r")]) }), (.invalidArgument, { try root([("/", "rw"), ("/", "rw")]) }),
            (.invalidArgument, { try root([("/", "rw")], mounts: [("/disk", false)], named) }),
            (.invalidArgument, { try root(mounts: [("/etc", false)], named) }),
            (.failedPrecondition, { try root(mounts: [("/disk", true)], named) }),
        ]
        for (index, (code, make)) in refused.enumerated() {
            let error = #expect(throws: SwiftletError.self, "\(index)") { _ = try make() }
            #expect(error?.code == code, "\(index): \(String(describing: error))")
        }
    }

    @Test func devicesAreAllowedByTheirOwnPath() throws {
        let link = NSTemporaryDirectory() + "swiftlet-link-\(UUID().uuidString)"
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "/dev/null")
        defer { try? FileManager.default.removeItem(atPath: link) }
        #expect(DevicePattern.allows("/dev/null", ["/dev/loop*", "/dev/nul?"]))
        #expect(!DevicePattern.allows("/dev/null", ["/dev/loop*", "/dev"]))
        #expect(DevicePattern.allows(link, ["/dev/null"]), "a kubelet's block volume is a link")
        #expect(!DevicePattern.allows(link, [NSTemporaryDirectory() + "*"]), "what a link is called says nothing of the device")
        #expect(!DevicePattern.allows("/dev/shm/../null", ["/dev/shm/*"]))
        #expect(!DevicePattern.allows("/dev/mapper/a/b", ["/dev/mapper/*"]))
    }

    @Test func aDiskIsOnePodsUntilItsContainerHasEnded() async throws {
        let roots = PersistentRoots()
        try roots.hold(disk, pod: "a", container: "a1")
        try roots.hold(disk, pod: "a", container: "a2")
        let error = #expect(throws: SwiftletError.self) { try roots.hold(disk, pod: "b", container: "b1") }
        #expect(error?.code == .failedPrecondition)
        for name in ["a2", "pod sandbox a", "/dev/one"] { #expect(error?.message.contains(name) == true) }
        roots.letGo(container: "a1")
        #expect(throws: SwiftletError.self) { try roots.hold(disk, pod: "b", container: "b1") }
        roots.letGo(container: "a2")
        try roots.hold(disk, pod: "b", container: "b1")
    }

    @Test func aCreationThatIsMadeAgainWaitsForTheSameCopy() async throws {
        let (roots, runs) = (PersistentRoots(patience: .milliseconds(50)), Runs())
        let write = { try await roots.write("sha256:1", to: disk, pod: "a", runs.work) }
        #expect(await code(write) == .unavailable)
        #expect(await code(write) == .unavailable)
        #expect(await code { try await roots.write("sha256:1", to: disk, pod: "b", runs.work) } == .unavailable)
        #expect(await code { try await roots.write("sha256:2", to: disk, pod: "a", runs.work) } == .unavailable)
        #expect(runs.count.withLock { $0 } == 1)
        // A caller that gives up returns, and the copy goes on.
        let patient = PersistentRoots()
        let caller = Task { try await patient.write("sha256:1", to: disk, pod: "a", runs.work) }
        try await eventually("it has begun") { runs.count.withLock { $0 } == 2 }
        caller.cancel()
        #expect(await caller.result.isFailure)
        runs.end()
        try await patient.write("sha256:1", to: disk, pod: "a", runs.work)
        try await roots.write("sha256:1", to: disk, pod: "a", runs.work)
        #expect(runs.count.withLock { $0 } == 2)
        try await roots.write("sha256:1", to: disk, pod: "a", runs.work)
        #expect(runs.count.withLock { $0 } == 3, "the disk is looked at again")
    }

    @Test func aFailureIsToldOnceAndACopyThatNobodyAsksForEnds() async throws {
        let failing = Runs(SwiftletError(.resourceExhausted, "full"))
        let roots = PersistentRoots(patience: .milliseconds(50), grace: .milliseconds(200))
        #expect(await code { try await roots.write("sha256:1", to: disk, pod: "a", failing.work) } == .unavailable)
        failing.end()
        try await eventually("the failure is told") {
            await code { try await roots.write("sha256:1", to: disk, pod: "a", failing.work) } == .resourceExhausted
        }
        let endless = Runs()
        #expect(await code { try await roots.write("sha256:1", to: disk, pod: "a", endless.work) } == .unavailable)
        try await eventually("another pod's is taken") {
            await code { try await roots.write("sha256:1", to: disk, pod: "b", failing.work) } == .resourceExhausted
        }
        // And at once when the pod is stopped.
        let long = PersistentRoots(patience: .milliseconds(50))
        #expect(await code { try await long.write("sha256:1", to: disk, pod: "a", endless.work) } == .unavailable)
        long.cancel(pod: "a")
        try await eventually("another pod's is taken") {
            await code { try await long.write("sha256:1", to: disk, pod: "b", failing.work) } == .resourceExhausted
        }
    }

    @Test func aPodWritesToOneDiskAtATime() async throws {
        let (roots, runs) = (PersistentRoots(patience: .milliseconds(50)), Runs())
        let other = RootDiskKey(name: "device 2", description: "device /dev/two")
        #expect(await code { try await roots.write("sha256:1", to: disk, pod: "a", runs.work) } == .unavailable)
        #expect(await code { try await roots.write("sha256:1", to: other, pod: "a", runs.work) } == .unavailable)
        #expect(runs.count.withLock { $0 } == 1, "they are one user's")
        runs.end()
        try await eventually("the other is written next") {
            await code { try await roots.write("sha256:1", to: other, pod: "a", runs.work) } == nil
        }
        #expect(runs.count.withLock { $0 } == 2)
        #expect(roots.writers.free == 2)
    }

    /// A copy does not end at the moment in which it is cancelled.
    @Test func theReleaseOfACopyWaitsForItsEnd() async throws {
        try await VMGround.with { ground in
            let began = Mutex(false)
            let ended = Mutex(false)
            let copy = Task {
                try await ground.machines.roots.write("sha256:1", to: disk, pod: "a") {
                    began.withLock { $0 = true }
                    while !Task.isCancelled { try? await Task.sleep(for: .milliseconds(5)) }
                    await Task { try? await Task.sleep(for: .milliseconds(300)) }.value
                    ended.withLock { $0 = true }
                }
            }
            try await eventually("it has begun") { began.withLock { $0 } }
            let entry = LedgerEntry(owner: "a", kind: .rootCopy, name: disk.name, document: try EmptyDocument().stored())
            try await Releasers(ground.machines.releasers).release(entry)
            #expect(ended.withLock { $0 })
            #expect(await copy.result.isFailure)
        }
    }

    @Test func aPartOfADiskIsRemovedWithWhoWroteIt() async throws {
        try await VMGround.with { ground in
            let volume = ground.directory + "/volume"
            try FileManager.default.createDirectory(atPath: volume, withIntermediateDirectories: true)
            let file = try VolumeFile("disk.img.swiftlet", in: HostPath(volume))
            let document = LentFileDocument(user: 2_001_300_001, owner: file.expectedOwnership, partial: .init(file))
            let entry = LedgerEntry(owner: "a", kind: .volumeFile, name: ground.directory + "/place", document: try document.stored())
            // Another pod's copy by now.
            try file.make()
            try await Releasers(ground.machines.releasers).release(entry)
            #expect(try file.size() == 0)
            try file.lend(at: ground.directory + "/place", to: 2_001_300_001, 0)
            try await Releasers(ground.machines.releasers).release(entry)
            #expect(try file.size() == nil)
            #expect(access(ground.directory + "/place", F_OK) != 0)
            try FileManager.default.removeItem(atPath: volume)
            try await Releasers(ground.machines.releasers).release(entry)
        }
    }

    @Test func variablesOnAVolumeStayWhoseTheyAre() async throws {
        try await VMGround.with { ground in
            let volume = ground.directory + "/volume"
            try FileManager.default.createDirectory(atPath: volume, withIntermediateDirectories: true)
            chown(volume, 21, 22)
            try Data(repeating: 1, count: 100).write(to: URL(filePath: ground.directory + "/template"))
            let firmware = UEFIFirmware(code: ground.directory + "/template", template: ground.directory + "/template")
            let file = try VolumeFile(PersistentRoot.variablesName, in: HostPath(volume))
            try file.makeVariables(firmware)
            #expect(try file.ownership() == .init(uid: 21, gid: 22, mode: 0o660))
            #expect(FileManager.default.contents(atPath: file.path) == Data(repeating: 1, count: 100))
            try Data(repeating: 2, count: 100).write(to: URL(filePath: file.path))
            chown(file.path, 7, 8)
            chmod(file.path, 0o640)
            try file.makeVariables(firmware)
            #expect(try file.ownership() == .init(uid: 7, gid: 8, mode: 0o640))
            #expect(FileManager.default.contents(atPath: file.path) == Data(repeating: 2, count: 100))
            #expect(try FileManager.default.contentsOfDirectory(atPath: volume) == ["nvram.fd"])
            // A second name is refused, and the file stays as it is.
            #expect(link(file.path, ground.directory + "/second") == 0)
            #expect(await code { try file.makeVariables(firmware) } == .failedPrecondition)
            unlink(ground.directory + "/second")
            #expect(try file.ownership() == .init(uid: 7, gid: 8, mode: 0o640))
            truncate(file.path, 99)
            #expect(await code { try file.makeVariables(firmware) } == .failedPrecondition)
        }
    }

    // MARK: Pods

    private static func plan(_ ground: VMGround, _ annotations: [String: String] = [:]) throws -> ContainerPlan {
        let volume = ground.directory + "/volume"
        try FileManager.default.createDirectory(atPath: volume, withIntermediateDirectories: true)
        var disk = Data(count: 1 << 20)
        disk[510] = 0x55
        disk[511] = 0xAA
        try disk.write(to: URL(filePath: volume + "/disk.img"))
        var mount = ContainerMount(containerPath: "/disk")
        mount.hostPath = volume
        return try ground.plan(annotations.merging(["swiftlet/root-volume": "/disk"]) { $1 }, mounts: [mount])
    }

    private static func release(_ ground: VMGround, _ ledgers: Ledger...) async {
        let releasers = Releasers(ground.machines.releasers + [ground.configuration.vsock.releaser])
        for ledger in ledgers {
            ledger.close()
            #expect(await ledger.releaseAll(by: releasers).isEmpty)
        }
    }

    /// On the real handler, with a stand-in for swtpm.
    @Test func aTPMsStateIsAFileOfItsVolumeWhichNoOtherPodHasMeanwhile() async throws {
        try await VMGround.with { ground in
            let volume = ground.directory + "/state"
            try FileManager.default.createDirectory(atPath: volume, withIntermediateDirectories: true)
            chown(volume, 7, 8)
            let file = try VolumeFile(PersistentRoot.tpmName, in: try HostPath(volume))
            var mount = ContainerMount(containerPath: "/state")
            mount.hostPath = volume
            func plan(_ annotations: [String: String]) throws -> ContainerPlan {
                try ground.plan(annotations.merging(["swiftlet/state-volume": "/state"]) { $1 }, mounts: [mount])
            }
            let daemon = try await ground.daemon()
            let (sandbox, ledger) = (try await daemon.start(), try await daemon.ledger())
            func create(_ plan: ContainerPlan) async throws {
                _ = try await sandbox.createContainer(VMGround.container, plan, ledger: ledger)
            }
            #expect(await code { try await create(try plan([:])) } == .invalidArgument, "nothing is to be kept")
            let elsewhere = ["swiftlet/tpm": "true", "swiftlet/state-volume": "/none"]
            #expect(await code { try await create(try ground.plan(elsewhere, mounts: [mount])) } == .invalidArgument)
            try await create(try plan(["swiftlet/tpm": "true"]))
            #expect(try ground.saved().mounts.isEmpty, "the guest does not see it")
            let key = RootDiskKey(name: "file \(file.volumeID)", description: "the volume")
            #expect(await code { try ground.machines.roots.hold(key, pod: "b", container: "b1") } == .failedPrecondition)
            try await sandbox.startContainer(VMGround.container, ledger: ledger)
            let user = try #require(ledger.entry(.user).flatMap { uid_t($0.name) })
            #expect(try file.ownership() == .init(uid: user, gid: ground.configuration.group, mode: 0o600))
            let option = "backend-uri=file://\(ground.names().lentTPM),mode=0600"
            #expect(!ProcessTable.all(of: [user], where: { $0.contains(option) }).isEmpty)
            ground.hypervisor.end(ground.machine)
            _ = try await sandbox.waitForExit(VMGround.container)
            try await eventually("it is given back") { try file.ownership() == .init(uid: 7, gid: 8, mode: 0o660) }
            sandbox.close()
            await Self.release(ground, ledger, daemon.pod)
            try ground.machines.roots.hold(key, pod: "b", container: "b1")
            truncate(file.path, 5 << 20)
            #expect(await code { try file.makeTPMState() } == .failedPrecondition)
        }
    }

    @Test func whatDoesNotOutliveTheMachineAsItsRootDiskDoesIsSaid() async throws {
        try await VMGround.with { ground in
            let daemon = try await ground.daemon()
            let (sandbox, ledger) = (try await daemon.start(), try await daemon.ledger())
            _ = try await sandbox.createContainer(VMGround.container, try Self.plan(ground, ["swiftlet/tpm": "true"]), ledger: ledger)
            try await sandbox.startContainer(VMGround.container, ledger: ledger)
            #expect(sandbox.details["notKept"] == nil)
            var record = try ground.saved()
            record.machine.boot = .firmware(code: "/code", variables: "/variables")
            #expect(record.unkept == ["UEFI's variables"])
            // As with a block volume, and of a container that an earlier release made.
            record.lentFiles = nil
            #expect(record.unkept == ["the TPM's state", "UEFI's variables"])
            // All of it goes together.
            record.root = nil
            #expect(record.unkept.isEmpty)
            sandbox.close()
            await Self.release(ground, ledger, daemon.pod)
        }
    }

    /// Its machine's end, which nobody watches any more, is not what lets go of the disk.
    @Test(arguments: [false, true]) func aDiskIsLetGoWithItsContainerWhateverBecameOfThat(started: Bool) async throws {
        try await VMGround.with { ground in
            let daemon = try await ground.daemon()
            let (sandbox, ledger) = (try await daemon.start(), try await daemon.ledger())
            _ = try await sandbox.createContainer(VMGround.container, try Self.plan(ground), ledger: ledger)
            if started { try await sandbox.startContainer(VMGround.container, ledger: ledger) }
            let entry = try #require(ledger.entry(.rootDisk))
            let disk = RootDiskKey(name: entry.name, description: "the disk")
            let roots = ground.machines.roots
            #expect(await code { try roots.hold(disk, pod: "b", container: "b1") } == .failedPrecondition)
            sandbox.close()
            let releasers = Releasers(ground.machines.releasers + [ground.configuration.vsock.releaser])
            if started { #expect(await code { try await releasers.release(entry) } == .unavailable, "its machine runs") }
            #expect(await code { try roots.hold(disk, pod: "b", container: "b1") } == .failedPrecondition)
            let pauses = ground.machines.pauses.changes(of: ground.machine)
            ledger.close()
            #expect(await ledger.releaseAll(by: releasers).isEmpty)
            // Nobody waits for a machine's pauses that is gone.
            if started { for await _ in pauses {} }
            try roots.hold(disk, pod: "b", container: "b1")
            daemon.pod.close()
            #expect(await daemon.pod.releaseAll(by: releasers).isEmpty)
            #expect(try ground.leaks().isEmpty)
        }
    }

    @Test func ofTwoContainersThatStartAtOnceOneIsThePodsMachine() async throws {
        try await VMGround.with { ground in
            let daemon = try await ground.daemon()
            let sandbox = try #require(try await daemon.start() as? VMSandbox)
            let ids = [VMGround.container, String(VMGround.container.reversed())]
            var ledgers: [Ledger] = []
            for id in ids {
                ledgers.append(try await daemon.ledger(id))
                _ = try await sandbox.createContainer(id, try ground.plan(), ledger: ledgers[ledgers.count - 1])
            }
            // Neither start gets to say in its record that it has begun.
            let mayWrite = AsyncStream<Void>.makeStream()
            let blocked = Task { await sandbox.writes.run { for await _ in mayWrite.stream { break } } }
            try await Task.sleep(for: .milliseconds(50))
            let starts = zip(ids, ledgers).map { id, ledger in Task { try await sandbox.startContainer(id, ledger: ledger) } }
            try await Task.sleep(for: .milliseconds(200))
            mayWrite.continuation.finish()
            await blocked.value
            var failures: [any Error] = []
            for start in starts { do { try await start.value } catch { failures.append(error) } }
            #expect(failures.map { ($0 as? SwiftletError)?.code } == [.failedPrecondition])
            #expect(ground.hypervisor.running.count == 1)
            sandbox.close()
            let releasers = Releasers(ground.machines.releasers + [ground.configuration.vsock.releaser])
            for ledger in ledgers + [daemon.pod] {
                ledger.close()
                #expect(await ledger.releaseAll(by: releasers).isEmpty)
            }
        }
    }
}

private struct TestFailure: Error {}

extension Result {
    fileprivate var isFailure: Bool { if case .failure = self { true } else { false } }
}
