import CLinux
import Concurrency
import Errors
import Foundation
import Glibc
import Linux
import Runtime
import Support
import Testing

@testable import HostRuntime

/// The first process of the PID namespace that a pod's containers share.
@Suite(.enabled(if: geteuid() == 0, "makes namespaces"), .timeLimit(.minutes(1))) struct PauseTests {
    private static func program() throws -> PauseProgram {
        let bundle = Bundle.main.bundleURL
        let candidates = [bundle, bundle.deletingLastPathComponent()].map { $0.appending(path: "swiftlet-pause").path }
        return PauseProgram(path: try #require(candidates.first { FileManager.default.isExecutableFile(atPath: $0) }))
    }

    /// Without a control group.
    private static func launch() async throws -> PauseProcess.Waiting {
        let start = PauseProcess(program: try program(), directory: "/pod")
        return try await OwnThread.run { try start.launch { _ in } }
    }

    private static func begun() async throws -> PauseProcess.Waiting {
        let waiting = try await launch()
        try await OwnThread.run { try waiting.begin(within: .seconds(20)) }
        return waiting
    }

    private static func namespace(_ pid: Int32, _ name: String) throws -> String {
        try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/ns/\(name)")
    }

    /// What containers that may trace processes reach by /proc/1.
    @Test func theFirstProcessHasNothingOfTheNode() async throws {
        let waiting = try await Self.begun()
        defer { waiting.abandon() }
        let pid = waiting.process.pid
        #expect(try KernelFile.names(in: "/proc/\(pid)/root").isEmpty)
        #expect(try KernelFile.names(in: "/proc/\(pid)/cwd").isEmpty)
        #expect(try KernelFile.names(in: "/proc/\(pid)/fd").isEmpty)
        let mounts = try #require(KernelFile.text("/proc/\(pid)/mounts")).split(separator: "\n")
        #expect(mounts.count == 1 && mounts[0].hasPrefix("none / tmpfs ro,nosuid,nodev,noexec,"), "\(mounts)")
        let status = try #require(KernelFile.text("/proc/\(pid)/status"))
        for line in [
            "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "CapInh:\t0000000000000000", "NoNewPrivs:\t1", "Groups:\t ",
            "Seccomp:\t2",
        ] {
            #expect(status.contains(line + "\n"), "\(line) in \(status)")
        }
        #expect(status.contains("Uid:\t65534\t65534\t65534\t65534\n") && status.contains("Gid:\t65534\t65534\t65534\t65534\n"))
        #expect(status.contains("NSpid:\t") && status.contains("\t1\n") && status.hasPrefix("Name:\tswiftlet-pause\n"))
        for name in ["mnt", "pid", "ipc", "cgroup"] {
            #expect(try Self.namespace(pid, name) != Self.namespace(getpid(), name), "\(name)")
        }
        // Its memory holds no file of the node.
        let maps = try #require(KernelFile.text("/proc/\(pid)/maps"))
        let files = Set(maps.split(separator: "\n").compactMap { $0.split(separator: " ").dropFirst(5).first }.filter { $0.hasPrefix("/") })
        #expect(files.allSatisfy { $0.hasPrefix("/memfd:swiftlet-pause") }, "\(files)")
        #expect(KernelFile.text("/proc/\(pid)/cmdline") == "swiftlet-pause\0\0/pod\0")
    }

    /// Its mode its pod's containers can change: no other pod's is executed from it.
    @Test func nobodyChangesWhatIsExecuted() throws {
        let (descriptor, other) = (try Self.program().sealed(), try Self.program().sealed())
        defer { for one in [descriptor, other] { close(one) } }
        var (status, otherStatus) = (stat(), stat())
        #expect(fstat(descriptor, &status) == 0 && fstat(other, &otherStatus) == 0 && status.st_ino != otherStatus.st_ino)
        var byte: UInt8 = 0
        #expect(pwrite(descriptor, &byte, 1, 0) == -1 && errno == EPERM)
        #expect(ftruncate(descriptor, 0) == -1 && errno == EPERM)
    }

    @Test func processesWithoutAParentAreTakenNoteOf() async throws {
        let waiting = try await Self.begun()
        defer { waiting.abandon() }
        let pid = waiting.process.pid
        let outcome = try await Spawn(
            "/usr/bin/nsenter", ["--target", "\(pid)", "--pid", "/bin/sh", "-c", "(sleep 0.3; exit 5) & (sleep 600) &"]
        ).run()
        #expect(outcome.succeeded, "\(outcome.errorText)")
        let children = "/proc/\(pid)/task/\(pid)/children"
        try await eventually("the one that has ended is gone") {
            let left = KernelFile.text(children)?.split(separator: " ").compactMap { Int32($0) } ?? []
            return left.count == 1 && left.allSatisfy { ProcessIdentity.of($0) != nil }
        }
        let left = try #require(KernelFile.text(children)?.split(separator: " ").compactMap { Int32($0) }.first.flatMap(ProcessIdentity.of))
        waiting.process.kill()
        #expect(waiting.process.waitForExit(.seconds(10)) && !left.isAlive, "the namespace ends with it")
    }

    /// Until the ledger knows it.
    @Test func itEndsWithADaemonThatDoesNotBeginIt() async throws {
        var waiting: PauseProcess.Waiting? = try await Self.launch()
        let process = try #require(waiting?.process)
        #expect(process.isAlive)
        waiting = nil
        #expect(await OwnThread.answer { process.waitForExit(.seconds(10)) })
        process.reap()
    }

    @Test func aNamespaceIsBoundAndReleasedHoweverOften() async throws {
        let directory = "/tmp/pause-tests-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let waiting = try await Self.begun()
        let (process, path) = (waiting.process, "\(directory)/pid")
        defer { waiting.abandon() }
        try await OwnThread.run { try PinnedNamespace.pid.bind(of: process, at: path) }
        #expect(NetworkNamespace.isBound(at: path))
        var (bound, own) = (stat(), stat())
        #expect(stat(path, &bound) == 0 && stat("/proc/\(process.pid)/ns/pid", &own) == 0 && bound.st_ino == own.st_ino)
        var document = PauseDocument(cgroup: try ProcessCgroup(parent: "/", name: "absent-\(getpid())", on: try Cgroups.detect()))
        document.process = process
        try document.write("\(directory)/pause.json")
        let found = try #require(try PauseDocument.found("\(directory)/pause.json"))
        #expect(found.process == process && found.cgroup == document.cgroup)
        for _ in 0..<2 { try await OwnThread.run { try found.end() } }
        #expect(!process.isAlive)
        try NodeMount.remove(path)
        #expect(try PauseDocument.found("\(directory)/absent.json") == nil)
    }

    @Test func aProgramThatIsMissingOrDoesNotComeToItsEndIsNamed() async throws {
        let missing = PauseProgram(path: "/nonexistent/swiftlet-pause")
        let error = await #expect(throws: SwiftletError.self) {
            _ = try await OwnThread.run { try PauseProcess(program: missing, directory: "/pod").launch { _ in } }
        }
        #expect(error?.code == .failedPrecondition && error?.message.contains("/nonexistent/swiftlet-pause") == true)
        let other = PauseProcess(program: PauseProgram(path: "/bin/sleep"), directory: "/pod")
        let ended = await #expect(throws: SwiftletError.self) {
            let waiting = try await OwnThread.run { try other.launch { _ in } }
            defer { waiting.abandon() }
            try await OwnThread.run { try waiting.begin(within: .seconds(5)) }
        }
        #expect(ended?.code == .unavailable && ended?.message.contains("has ended") == true, "\(String(describing: ended))")
        let placed = await #expect(throws: SwiftletError.self) {
            let start = PauseProcess(program: try Self.program(), directory: "/pod")
            _ = try await OwnThread.run { try start.launch { _ in throw SwiftletError(.notFound, "no such group") } }
        }
        #expect(placed?.message.contains("control group") == true)
    }
}
