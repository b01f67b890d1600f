import CloudInit
import Errors
import Foundation
import Runtime
import Support
import Synchronization
import Testing

@testable import NativeVMRuntime

/// Whose a root disk is, and the copies that make one.
@Suite(.timeLimit(.minutes(1))) struct PersistentRootsTests {
    private let disk = PersistentRoot.Key(name: "device 1", description: "device /dev/one")

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
}

private struct TestFailure: Error {}

extension Result {
    fileprivate var isFailure: Bool { if case .failure = self { true } else { false } }
}
