import Errors
import Foundation
import Glibc
import Logging
import NIOCore
import StreamFakes
import Support
import Synchronization

@testable import StreamServer

/// A server with processes of this machine behind it, and an API server in front of it.
final class StreamNode: Sendable {
    let backend: LocalBackend
    let server: StreamServer
    let log: RecordedLog
    let api: KubernetesStandIn
    let directory: URL

    init(
        backend: LocalBackend = LocalBackend(), hasTerminal: Bool = false, _ change: (inout ServerConfiguration) -> Void = { _ in }
    ) async throws {
        var configuration = ServerConfiguration()
        change(&configuration)
        let log = RecordedLog()
        let server = try await StreamServer.start(configuration, backend, logger: log.logger)
        (self.backend, self.log, self.server) = (backend, log, server)
        directory = FileManager.default.temporaryDirectory.appending(path: "streams-\(UUID())")
        try FileManager.default.createDirectory(at: directory.appending(path: "home"), withIntermediateDirectories: true)
        api = try KubernetesStandIn(hasTerminal: hasTerminal) { stream in
            switch stream.kind {
            case "exec":
                try server.url(
                    for: .exec(ExecRequest(containerID: stream.pod, command: stream.query["command"] ?? [], streams: Self.set(stream))))
            case "attach": try server.url(for: .attach(AttachRequest(containerID: stream.pod, streams: Self.set(stream))))
            default: try server.url(for: .portForward(PortForwardRequest(sandboxID: stream.pod, ports: [])))
            }
        }
    }

    func stop() async {
        api.stop()
        await server.stop()
        try? FileManager.default.removeItem(at: directory)
    }

    private static func set(_ stream: KubernetesStandIn.Stream) throws -> StreamSet {
        try StreamSet(
            stdin: stream.isSet("stdin"), stdout: stream.isSet("stdout"), stderr: stream.isSet("stderr") && !stream.isSet("tty"),
            tty: stream.isSet("tty"))
    }

    func execURL(_ command: [String], stdin: Bool = false, stdout: Bool = true, stderr: Bool = false, tty: Bool = false) throws -> String {
        try server.url(
            for: .exec(
                ExecRequest(
                    containerID: "c", command: command, streams: try StreamSet(stdin: stdin, stdout: stdout, stderr: stderr, tty: tty))))
    }

    /// Debian's, which `scripts/setup --test` unpacks.
    static let kubectl = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: ".build/kubernetes-client/usr/bin/kubectl").path

    /// Runs a client; `input` is its stdin, which then ends.
    func run(_ command: [String], input: Data? = nil) async throws -> (status: Int32, stdout: Data, stderr: String) {
        let client = try Client(command, input: input, home: directory)
        return await client.finish()
    }

    func kubectl(
        _ arguments: [String], program: String = kubectl, input: Data? = nil
    ) async throws -> (status: Int32, stdout: Data, stderr: String) {
        try await run([program, "--server=\(api.address)"] + arguments, input: input)
    }
}

/// A process of a client with its output in files, so that nobody has to read it in time.
final class Client: Sendable {
    private let process: ChildProcess
    private let files: (stdout: URL, stderr: URL)
    private let ended: AsyncStream<Void>

    init(_ command: [String], input: Data? = nil, home: URL) throws {
        let files = (
            stdout: home.appending(path: "out-\(UUID())"), stderr: home.appending(path: "err-\(UUID())")
        )
        for file in [files.stdout, files.stderr] { try Data().write(to: file) }
        let process = ChildProcess()
        process.executableURL = URL(fileURLWithPath: command[0])
        process.arguments = Array(command.dropFirst())
        process.environment = ["HOME": home.appending(path: "home").path, "PATH": "/usr/bin:/bin"]
        process.currentDirectoryURL = home
        process.standardOutput = try FileHandle(forWritingTo: files.stdout)
        process.standardError = try FileHandle(forWritingTo: files.stderr)
        if let input {
            let file = home.appending(path: "in-\(UUID())")
            try input.write(to: file)
            process.standardInput = try FileHandle(forReadingFrom: file)
        } else {
            process.standardInput = FileHandle.nullDevice
        }
        let (ended, continuation) = AsyncStream.makeStream(of: Void.self)
        process.terminationHandler = { _ in continuation.finish() }
        try process.run()
        (self.process, self.files, self.ended) = (process, files, ended)
    }

    var stdout: Data { (try? Data(contentsOf: files.stdout)) ?? Data() }
    var stderr: String { String(decoding: (try? Data(contentsOf: files.stderr)) ?? Data(), as: UTF8.self) }

    func kill() { Glibc.kill(process.processIdentifier, SIGKILL) }

    func finish() async -> (status: Int32, stdout: Data, stderr: String) {
        for await _ in ended {}
        return (process.terminationStatus, stdout, stderr)
    }
}
