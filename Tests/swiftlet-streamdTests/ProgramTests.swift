import CLinux
import Errors
import Foundation
import Glibc
import StreamControl
import Support
import Testing

@testable import swiftlet_streamd

/// The program as it is started.
@Suite(.timeLimit(.minutes(2))) struct ProgramTests {
    /// Beside the tests' own bundle.
    private static let program = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        .appending(path: "swiftlet-streamd").path

    private final class Started {
        /// A pool's thread has signals blocked, and so have its children.
        private static let prologue = """
            import os, signal, socket, sys
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            path, arguments = sys.argv[1], sys.argv[2:]

            """
        let process = ChildProcess()
        let directory = FileManager.default.temporaryDirectory.appending(path: "streamd-\(UUID())")
        var socket: String { directory.appending(path: "s").path }

        /// - Parameter launcher: Python that executes `arguments`.
        init(_ launcher: String) throws {
            try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
            process.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
            process.arguments = ["-c", Self.prologue + launcher, socket]
            process.arguments?.append(contentsOf: [ProgramTests.program, "--control-socket", socket, "--positions", directory.path])
            process.standardError = FileHandle.nullDevice
            try process.run()
        }

        func end() {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
            try? FileManager.default.removeItem(at: directory)
        }

        func client() async throws -> StreamControlClient {
            try await eventually("it is served") { (try? await StreamControlClient.connect(to: self.socket)) != nil }
            return try await StreamControlClient.connect(to: socket)
        }

        /// Of all threads, by the names of proc(5).
        func statuses(_ name: String) throws -> Set<String> {
            let tasks = "/proc/\(process.processIdentifier)/task"
            return Set(
                try FileManager.default.contentsOfDirectory(atPath: tasks).compactMap { task in
                    let text = try? String(contentsOfFile: "\(tasks)/\(task)/status", encoding: .utf8)
                    return text?.split(separator: "\n").first { $0.hasPrefix(name + ":") }?.split(separator: "\t").last.map(String.init)
                })
        }
    }

    @Test func noThreadHasACapabilityOrEverySystemCall() async throws {
        let started = try Started("os.execv(arguments[0], arguments)")
        defer { started.end() }
        let client = try await started.client()
        #expect(client.info.pid == started.process.processIdentifier)
        for name in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
            #expect(try started.statuses(name) == ["0000000000000000"], "\(name)")
        }
        #expect(try started.statuses("Seccomp") == ["2"])
        #expect(try started.statuses("NoNewPrivs") == ["1"])
        client.close()
    }

    @Test func aSocketThatAServiceManagerListensOnIsServedAndLeft() async throws {
        let started = try Started(
            """
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(path)
            listening.listen()
            if listening.fileno() != 3: os.dup2(listening.fileno(), 3)
            os.set_inheritable(3, True)
            os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
            os.execv(arguments[0], arguments)
            """)
        defer { started.end() }
        let client = try await started.client()
        #expect(client.info.features.contains(StreamContract.configure))
        client.close()
        // The next connection would start the next process.
        kill(started.process.processIdentifier, SIGTERM)
        #expect(await Self.ends(started.process))
        #expect(FileManager.default.fileExists(atPath: started.socket))
    }

    /// One that waits in the backlog would keep a thread busy.
    @Test func aClientForWhomNoDescriptorIsLeftIsSentAway() async throws {
        let started = try Started("os.execv(arguments[0], arguments)")
        defer { started.end() }
        let client = try await started.client()
        let pid = started.process.processIdentifier
        let taken = Set(try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").compactMap { Int($0) })
        let free = try #require((0...).first { !taken.contains($0) })
        let limit = try ChildProcess.run(URL(fileURLWithPath: "/usr/bin/prlimit"), arguments: ["--pid=\(pid)", "--nofile=\(free + 4)"])
        limit.waitUntilExit()
        #expect(limit.terminationStatus == 0)
        // So many that the numbers do not suffice; more than 16 would be sent away for that.
        var clients = (0..<12).map { _ in pollfd(fd: clinux_unix_socket(), events: Int16(POLLIN), revents: 0) }
        defer { for client in clients { close(client.fd) } }
        for client in clients { #expect(clinux_unix_connect(client.fd, started.socket) == 0) }
        try await eventually("the last is sent away") {
            poll(&clients, nfds_t(clients.count), 0)
            return clients.last?.revents != 0
        }
        var byte: UInt8 = 0
        let last = try #require(clients.last).fd
        #expect(read(last, &byte, 1) == 0)
        _ = try await client.call(.getInfo, StreamGetInfoRequest(), timeout: .seconds(10))
        client.close()
    }

    private static func ends(_ process: ChildProcess) async -> Bool {
        (try? await eventually("it ends") { !process.isRunning }) != nil
    }

    @Test func aDescriptorThatIsNoListeningSocketIsNamed() async throws {
        let started = try Started(
            """
            os.dup2(os.open("/dev/null", os.O_RDONLY), 3)
            os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
            os.execv(arguments[0], arguments)
            """)
        defer { started.end() }
        #expect(await Self.ends(started.process))
        #expect(started.process.terminationStatus == 1)
    }

    @Test func anotherProcesssSocketsAreNotTaken() throws {
        #expect(try SocketActivation.descriptor([:]) == nil)
        #expect(try SocketActivation.descriptor(["LISTEN_FDS": "1", "LISTEN_PID": "1"]) == nil)
        #expect(throws: SwiftletError.self) { try SocketActivation.descriptor(["LISTEN_FDS": "2", "LISTEN_PID": "\(getpid())"]) }
    }
}
