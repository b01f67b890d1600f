import Errors
import Foundation
import Linux
import Machines
import Testing

struct VsockBackendTests {
    /// A stand-in for swiftlet-vsockd.
    private func withBackend(_ script: String, _ body: (VsockBackend, String) async throws -> Void) async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "swiftlet-vsock-\(UUID())")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let binary = directory.appending(path: "swiftlet-vsockd")
        try Data("#!/bin/sh\n\(script)\n".utf8).write(to: binary)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: binary.path)
        try await body(VsockBackend(binary: binary.path, timeout: .seconds(20)), directory.path)
    }

    private static let user = MachineUser(uid: 2_001_100_000, gid: 2_001_100_001)

    private func start(_ backend: VsockBackend, _ directory: String) async throws -> ProcessIdentity {
        try await backend.start(
            vhostSocket: "\(directory)/vhost.sock", hostSocket: "\(directory)/host.sock", cid: 9, log: "\(directory)/vsock.log",
            user: Self.user)
    }

    @Test func itRunsInASessionOfItsOwnUntilStopped() async throws {
        try await withBackend("echo \"$@\"; printf x >&3; exec 3>&-; while :; do sleep 1; done") { backend, directory in
            let process = try await start(backend, directory)
            #expect(process.isAlive)
            #expect(getsid(process.pid) == process.pid)
            let log = try String(contentsOfFile: "\(directory)/vsock.log", encoding: .utf8)
            let sockets = "--vhost-socket \(directory)/vhost.sock --host-socket \(directory)/host.sock"
            #expect(log == "\(sockets) --guest-cid 9 --user 2001100000:2001100001 --ready-fd 3\n")
            try await backend.stop(hostSocket: "\(directory)/host.sock", process: process)
            #expect(!process.isAlive)
            try await backend.stop(hostSocket: "\(directory)/host.sock", process: process)
        }
    }

    @Test func oneWhoseIdentityWasLostIsFoundByItsSocket() async throws {
        try await withBackend("trap '' TERM; printf x >&3; while :; do sleep 1; done") { backend, directory in
            let process = try await start(backend, directory)
            try await backend.stop(hostSocket: "\(directory)/other.sock", process: nil)
            #expect(process.isAlive)
            try await backend.stop(hostSocket: "\(directory)/host.sock", process: nil)
            #expect(!process.isAlive)
        }
    }

    @Test func whereTheProcessIsKnownNoOtherIsLookedFor() async throws {
        try await withBackend("printf x >&3; while :; do sleep 1; done") { backend, directory in
            let known = try await start(backend, directory)
            let other = try await start(backend, directory)
            for _ in 0..<2 { try await backend.stop(hostSocket: "\(directory)/host.sock", process: known) }
            #expect(!known.isAlive && other.isAlive)
            try await backend.stop(hostSocket: "\(directory)/host.sock", process: nil)
            #expect(!other.isAlive)
        }
    }

    @Test func oneThatEndsAtOnceSaysWhy() async throws {
        try await withBackend("echo no such group >&2; exit 3") { backend, directory in
            await #expect {
                _ = try await start(backend, directory)
            } throws: {
                ($0 as? SwiftletError)?.code == .unavailable && "\($0)".contains("no such group")
            }
        }
    }

    @Test func oneThatNeverListensIsKilled() async throws {
        try await withBackend("exec sleep 1000") { backend, directory in
            var backend = backend
            backend.timeout = .milliseconds(50)
            await #expect {
                _ = try await start(backend, directory)
            } throws: {
                ($0 as? SwiftletError)?.code == .deadlineExceeded
            }
        }
    }

    /// The real one.
    @Test(.enabled(if: geteuid() == 0)) func beforeTheFirstByteOfAGuestItGivesUpWhatItDoesNotNeed() async throws {
        let directory = "/tmp/swiftlet-vsockd-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let backend = VsockBackend(binary: try SystemTestGround.built("swiftlet-vsockd"), timeout: .seconds(60))
        let process = try await start(backend, directory)
        let threads = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process.pid)/task")
        #expect(!threads.isEmpty)
        for thread in threads {
            let status = try String(contentsOfFile: "/proc/\(process.pid)/task/\(thread)/status", encoding: .utf8)
            let (uid, gid) = (Self.user.uid, Self.user.gid)
            var expected = ["Uid:\t\(uid)\t\(uid)\t\(uid)\t\(uid)", "Gid:\t\(gid)\t\(gid)\t\(gid)\t\(gid)", "Groups:\t "]
            expected += ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map { "\($0):\t0000000000000000" }
            expected += ["NoNewPrivs:\t1", "Seccomp:\t2"]
            for line in expected { #expect(status.contains("\n\(line)\n"), "\(line) is not in \(status)") }
        }
        let limits = try String(contentsOfFile: "/proc/\(process.pid)/limits", encoding: .utf8)
        #expect(limits.split(separator: "\n").contains { $0.hasPrefix("Max file size") && $0.contains(" 0 ") })
        #expect(FileManager.default.fileExists(atPath: "\(directory)/host.sock"))
        try await backend.stop(hostSocket: "\(directory)/host.sock", process: process)
        #expect(!process.isAlive)
    }

    @Test func onlyADeviceThatAnswersIsTheKernels() {
        for device in ["/nonexistent", "/dev/null", "/proc/self/exe"] { #expect(!VsockSupport.kernelAnswers(device: device)) }
    }
}
