import Concurrency
import Errors
import Foundation
import Runtime
import State
import Support
import Synchronization
import Testing

@testable import HostRuntime
@testable import Linux

/// What becomes of containers whose conmon or runtime does not do what it should: programs of the tests stand in for them.
@Suite(.timeLimit(.minutes(1)), .serialized) struct ConmonTests {
    private final class Place {
        let directory = "/tmp/conmon-tests-\(UUID().uuidString.prefix(8))"

        init() throws { try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true) }

        deinit { try? FileManager.default.removeItem(atPath: directory) }

        func program(_ name: String, _ script: String) throws -> String {
            let path = "\(directory)/\(name)"
            try "#!/bin/sh\n\(script)\n".write(toFile: path, atomically: true, encoding: .utf8)
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
            return path
        }

        func conmon(_ path: String) -> Conmon {
            Conmon(
                path: path, runtime: OCIRuntime(path: "/nonexistent", root: directory, deadline: .seconds(1)), usesSystemd: false,
                container: "c1", bundle: ContainerBundle(directory: directory), logPath: "", terminal: false, stdin: false,
                stdinOnce: false)
        }
    }

    private func failure(_ script: String?, within limit: Duration = .seconds(10)) async throws -> SwiftletError? {
        let place = try Place()
        let path = try script.map { try place.program("conmon", $0) } ?? "\(place.directory)/absent"
        let conmon = place.conmon(path)
        do {
            _ = try await OwnThread.run { try conmon.create(within: limit) { _ in } }
            return nil
        } catch {
            return error as? SwiftletError
        }
    }

    @Test func whatTheRuntimeSaidIsTheErrorOfTheStart() async throws {
        let said = try await failure(#"echo '{"pid": -1, "message": "exec: \"nope\": executable file not found in $PATH"}' >&3"#)
        #expect(said?.code == .invalidArgument && said?.message.contains("nope") == true)
    }

    @Test func aMonitorThatIsMissingCrashesOrTalksNonsenseIsNamed() async throws {
        #expect(try await failure(nil)?.code == .notFound)
        let crashed = try await failure("echo broken; kill -SEGV $$")
        #expect(crashed?.code == .unavailable && crashed?.message.contains("broken") == true)
        #expect(try await failure("head -c 100000 /dev/zero >&3")?.code == .unavailable)
        #expect(try await failure(#"echo '{"pid": 999999999}' >&3"#)?.message.contains("has ended") == true)
    }

    @Test func aMonitorThatHangsIsKilled() async throws {
        let began = ContinuousClock.now
        let file = NSTemporaryDirectory() + "monitor-\(UUID().uuidString)"
        defer { unlink(file) }
        #expect(try await failure("echo $$ > \(file); exec sleep 60", within: .milliseconds(800)) != nil)
        #expect(ContinuousClock.now - began < .seconds(10))
        let pid = try #require(KernelFile.text(file, limit: 32).flatMap { Int32($0.filter { !$0.isWhitespace }) })
        #expect(ProcessIdentity.of(pid)?.isAlive != true)
    }

    /// In no group of the pod's neither it nor what the runtime has made could be found, or counted.
    @Test func aMonitorThatCannotBeMovedToItsGroupFailsTheStart() async throws {
        let place = try Place()
        let began = "\(place.directory)/began"
        let seen = Mutex<ProcessIdentity?>(nil)
        let conmon = place.conmon(try place.program("conmon", "head -c 1 <&4 >/dev/null; touch \(began); exec sleep 60"))
        let error = await #expect(throws: SwiftletError.self) {
            _ = try await OwnThread.run {
                try conmon.create(within: .seconds(10)) { process in
                    seen.withLock { $0 = process }
                    throw SwiftletError(.notFound, "opening /sys/fs/cgroup/absent/cgroup.procs")
                }
            }
        }
        #expect(error?.code == .notFound && error?.message.contains("the control group of conmon for container c1") == true)
        let process = try #require(seen.withLock { $0 })
        #expect(!process.isAlive && access(began, F_OK) != 0, "it ends before it makes anything")
    }

    /// Neither runtime nor conmon is needed for a release, however often it is asked for.
    @Test func aContainerIsReleasedWithoutItsRuntime() async throws {
        let place = try Place()
        let process = try DetachedProcess("/bin/sleep", ["600"], descriptors: [])
        let identity = try #require(ProcessIdentity.of(process.pid))
        try FileManager.default.createDirectory(atPath: "\(place.directory)/state/c1", withIntermediateDirectories: true)
        var document = HostContainerDocument(
            bundle: place.directory, runtime: "/nonexistent", runtimeRoot: "\(place.directory)/state")
        document.process = identity
        for _ in 0..<2 { try await ContainerEnd.end("c1", document) }
        #expect(!identity.isAlive && !FileManager.default.fileExists(atPath: "\(place.directory)/state/c1"))
        identity.reap()
    }

    @Test func runtimesThatFailHangOrFloodEndWithAWord() async throws {
        let place = try Place()
        func runtime(_ script: String) throws -> OCIRuntime {
            OCIRuntime(path: try place.program("runtime", script), root: place.directory, deadline: .milliseconds(500))
        }
        for (script, word) in [
            (#"echo 'time="now" level=error msg="container does not exist"' >&2; exit 1"#, "container does not exist"),
            ("exec sleep 60", "did not finish"), ("head -c 10000000 /dev/zero >&2; exit 3", "status 3"),
        ] {
            let runtime = try runtime(script)
            let error = await #expect(throws: SwiftletError.self) { try await runtime.run(["start", "c1"]) }
            #expect(error?.description.contains(word) == true, "\(String(describing: error))")
        }
    }

    /// A process whose runtime made no group for it is in one with others, which are not the container's.
    @Test func onlyGroupsThatCarryTheContainersIDAreIts() {
        let cgroups = Cgroups(
            layout: .hybrid, hierarchies: ["memory": "/cg/memory", "cpu": "/cg/cpu", "cpuacct": "/cg/cpuacct", "unified": "/cg/unified"])
        let lines: [Substring] = ["4:memory:/kubepods/pod1/abc123", "3:cpu,cpuacct:/system.slice/swiftletd.service", "0::/abc123/init"]
        let found = ContainerCgroup.directories(lines, container: "abc123", cgroups)
        #expect(found.map(\.path) == ["/cg/memory/kubepods/pod1/abc123", "/cg/unified/abc123/init"])
        #expect(found.map(\.isUnified) == [false, true])
        #expect(ContainerCgroup.name("abc", below: "", usesSystemd: false) == "/swiftlet/abc")
        #expect(
            ContainerCgroup.name("abc", below: "/kubepods.slice/kubepods-pod1.slice", usesSystemd: true)
                == "kubepods-pod1.slice:swiftlet:abc")
    }

    @Test func propagationIsThatOfTheMountThatAPathLiesOn() {
        let table = Array(
            """
            1 0 8:1 / / rw - ext4 /dev/sda1 rw
            2 1 0:5 / /srv rw shared:3 - tmpfs none rw
            3 2 0:6 / /srv/a\\040b rw master:4 - tmpfs none rw

            """.utf8)
        #expect(MountPropagation.of("/srv/x", in: table).isShared)
        #expect(MountPropagation.of("/srv/a b/c", in: table).isSlave && !MountPropagation.of("/srv/a b", in: table).isShared)
        #expect(!MountPropagation.of("/srvx", in: table).isShared)
    }
}
