import CLinux
import Concurrency
import Errors
import Foundation
import Glibc
import Logging
import Runtime
import Support
import Testing

@testable import HostRuntime
@testable import Linux

/// Processes of exec sessions and sockets of pods' networks, with programs of the tests in conmon's place.
@Suite(.timeLimit(.minutes(1)), .serialized) struct SessionTests {
    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private final class Place {
        let directory = "/tmp/session-tests-\(UUID().uuidString.prefix(8))"
        var session: SessionDirectory { SessionDirectory(path: "\(directory)/session-1") }

        init() throws {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            try session.create()
        }

        deinit { try? FileManager.default.removeItem(atPath: directory) }

        func conmon(_ script: String) throws -> ConmonExec {
            let path = "\(directory)/conmon"
            try "#!/bin/sh\n\(script)\n".write(toFile: path, atomically: true, encoding: .utf8)
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
            return ConmonExec(
                path: path, runtime: OCIRuntime(path: "/nonexistent", root: directory, deadline: .seconds(1)), container: "c1",
                directory: session, terminal: false, stdin: true)
        }
    }

    /// What it says to the daemon, and reads first and when its client has come.
    private static let ready = #"head -c 1 <&4 >/dev/null; echo '{"data": 0}' >&5; head -c 1 <&4 >/dev/null; "#

    @Test func conmonIsToldToGoOnWhenItsClientHasCome() async throws {
        let place = try Place()
        let conmon = try place.conmon(Self.ready + #"printf '{"data": %s}\n{"data": 0}\n' $$ >&3; exec sleep 600"#)
        let waiting = try await OwnThread.run { try conmon.launch(within: .seconds(10)) { _ in } }
        #expect(SessionDirectory.all(in: ContainerBundle(directory: place.directory)).map(\.path) == [place.session.path])
        let process = try await OwnThread.run { try waiting.begin(within: .seconds(10), container: "c1") }
        #expect(process?.pid == waiting.monitor.pid)
        waiting.monitor.kill()
        #expect(await waiting.monitor.hasEnded())
        waiting.monitor.reap()
    }

    @Test func whatTheRuntimeSaidIsTheErrorOfTheExec() async throws {
        let place = try Place()
        let conmon = try place.conmon(
            Self.ready + #"echo '{"data": -1, "message": "exec: \"nope\": executable file not found in $PATH"}' >&3"#)
        let waiting = try await OwnThread.run { try conmon.launch(within: .seconds(10)) { _ in } }
        let failure = await #expect(throws: SwiftletError.self) {
            _ = try await OwnThread.run { try waiting.begin(within: .seconds(10), container: "c1") }
        }
        #expect(failure?.code == .invalidArgument && failure?.message.contains("nope") == true)
        waiting.monitor.reap()
    }

    @Test func aConmonThatHangsCrashesOrTalksNonsenseIsNamedAndGone() async throws {
        for (script, code) in [
            ("kill -SEGV $$", SwiftletError.Code.unavailable), ("echo nonsense >&5; sleep 600", .unavailable),
            ("exec sleep 600", .deadlineExceeded),
        ] {
            let place = try Place()
            let conmon = try place.conmon(script)
            let failure = await #expect(throws: SwiftletError.self) {
                _ = try await OwnThread.run { try conmon.launch(within: .seconds(1)) { _ in } }
            }
            #expect(failure?.code == code, "\(script): \(String(describing: failure))")
            // One that has ended at once is not noted.
            guard let text = try? String(contentsOfFile: place.session.monitorFile, encoding: .utf8) else { continue }
            #expect(ProcessIdentity.of(try #require(Int32(text))) == nil)
        }
    }

    @Test func whatASessionHasStartedEndsWithIt() async throws {
        let place = try Place()
        let child = try DetachedProcess("/bin/sh", ["-c", "exec sleep 600"], descriptors: [])
        let process = try #require(ProcessIdentity.of(child.pid))
        // swiftlet-streamd's end.
        let pipe = open(place.session.sessionPipe, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        let end = SessionEnd(directory: place.session, container: "c1", cgroup: ContainerCgroup(directories: []), first: nil)
        let following = Task { await end.follow(process, nil) }
        try await Task.sleep(for: .milliseconds(300))
        #expect(process.isAlive && !SessionEnd.isEnding(process))
        close(pipe)
        await following.value
        #expect(!process.isAlive && SessionEnd.isEnding(process) && access(place.session.path, F_OK) != 0)
        process.reap()
        // Nobody has come, or a daemon has restarted after the session's end.
        await SessionPipe(path: place.session.sessionPipe).hasEnded()
    }

    @Test func socketsOfAPodsNetworkAreHandedOut() async throws {
        let namespace = NSTemporaryDirectory() + "swiftlet-sockets-\(UUID().uuidString)"
        try NetworkNamespace.create(at: namespace)
        defer { try? NetworkNamespace.delete(at: namespace) }
        let place = try Place()
        let path = "\(place.directory)/sockets"
        // In the place of one that a daemon has left.
        try "".write(toFile: path, atomically: false, encoding: .utf8)
        var sockets: PodSockets? = try PodSockets(at: path, namespace: namespace, logger: logger)
        withExtendedLifetime(sockets) {}
        let inode = try PassedSockets.receive(path).map { try PassedSockets.namespace(of: $0) }
        let expected = try PassedSockets.inode(namespace)
        #expect(inode.count == 2 && Set(inode) == [expected])
        try NetworkNamespace.delete(at: namespace)
        sockets = nil
        #expect(throws: SwiftletError.self) { _ = try PassedSockets.receive(path) }
    }
}

/// swiftlet-streamd's end of it.
private enum PassedSockets {
    static func receive(_ path: String) throws -> [Int32] {
        let connection = clinux_unix_socket()
        defer { close(connection) }
        guard clinux_unix_connect(connection, path) == 0 else { throw SwiftletError.system("connect") }
        var waiting = pollfd(fd: connection, events: Int16(POLLIN), revents: 0)
        poll(&waiting, 1, 10_000)
        var (byte, received, descriptors): (UInt8, Int32, [Int32]) = (0, 0, [-1, -1])
        guard clinux_receive_with_fds(connection, &byte, 1, &descriptors, 2, &received) == 1 else { throw SwiftletError.system("receive") }
        return Array(descriptors.prefix(Int(received)))
    }

    /// Of a socket: SIOCGSKNS, which makes a descriptor of it. Closes the socket.
    static func namespace(of socket: Int32) throws -> UInt64 {
        let siocgskns: UInt = 0x894C
        let descriptor = ioctl(socket, siocgskns)
        close(socket)
        guard descriptor >= 0 else { throw SwiftletError.system("SIOCGSKNS") }
        defer { close(descriptor) }
        var status = stat()
        fstat(descriptor, &status)
        return UInt64(status.st_ino)
    }

    static func inode(_ path: String) throws -> UInt64 {
        var status = stat()
        guard stat(path, &status) == 0 else { throw SwiftletError.system("stat \(path)") }
        return UInt64(status.st_ino)
    }
}
