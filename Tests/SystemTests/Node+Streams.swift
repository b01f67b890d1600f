import CRI
import Errors
import Foundation
import Glibc
import Linux
import Support

extension Node {
    /// swiftlet-streamd of this node; nil when it does not run.
    nonisolated var streamDaemon: ProcessIdentity? {
        let socket = run + "/streamd.sock"
        return ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { Int32($0) }.first { pid in
            let line = KernelFile.bytes("/proc/\(pid)/cmdline", limit: 1 << 16) ?? []
            let words = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
            return words.first?.hasSuffix("swiftlet-streamd") == true && words.contains(socket)
        }.flatMap { ProcessIdentity.of($0) }
    }

    /// The end of what it has logged.
    nonisolated var streamDaemonLog: String { tail(run + "/streamd.log") }

    /// It belongs to the node, and ends with it.
    nonisolated func endStreamDaemon() async {
        guard let process = streamDaemon else { return }
        _ = try? process.signal(SIGTERM)
        for _ in 0..<500 where process.isAlive { try? await Task.sleep(for: .milliseconds(10)) }
        if process.isAlive { process.kill() }
    }

    /// An API stand-in whose streams go to this node: pods are containers of that name, or sandboxes for port-forward.
    nonisolated func kubernetes(
        containers: [String: String], sandboxes: [String: String] = [:], hasTerminal: Bool = false
    ) throws -> KubernetesStandIn {
        try KubernetesStandIn(hasTerminal: hasTerminal) { stream in
            try Self.wait { try await self.url(of: stream, containers, sandboxes) }
        }
    }

    private func url(
        of stream: KubernetesStandIn.Stream, _ containers: [String: String], _ sandboxes: [String: String]
    ) async throws -> String {
        let cri = try cri
        switch stream.kind {
        case "exec":
            return try await cri.call(
                RuntimeRPC.exec,
                .with {
                    $0.containerID = containers[stream.pod] ?? stream.pod
                    $0.cmd = stream.query["command"] ?? []
                    ($0.stdin, $0.stdout, $0.stderr, $0.tty) = (
                        stream.isSet("stdin"), stream.isSet("stdout"), stream.isSet("stderr"), stream.isSet("tty")
                    )
                }
            ).url
        case "attach":
            return try await cri.call(
                RuntimeRPC.attach,
                .with {
                    $0.containerID = containers[stream.pod] ?? stream.pod
                    ($0.stdin, $0.stdout, $0.stderr, $0.tty) = (
                        stream.isSet("stdin"), stream.isSet("stdout"), stream.isSet("stderr"), stream.isSet("tty")
                    )
                }
            ).url
        case "portforward":
            return try await cri.call(RuntimeRPC.portForward, .with { $0.podSandboxID = sandboxes[stream.pod] ?? stream.pod }).url
        default: throw SwiftletError(.unimplemented, stream.kind)
        }
    }

    /// The stand-in has a thread for each client.
    private static func wait<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) throws -> Value {
        let done = DispatchSemaphore(value: 0)
        let result = ResultBox<Value>()
        Task {
            do { result.value = .success(try await body()) } catch { result.value = .failure(error) }
            done.signal()
        }
        done.wait()
        guard let value = result.value else { throw SwiftletError(.internal, "no result") }
        return try value.get()
    }
}

/// Unchecked: the semaphore orders its two users.
private final class ResultBox<Value: Sendable>: @unchecked Sendable {
    var value: Result<Value, any Error>?
}

/// Debian's kubectl 1.20.
struct Kubectl {
    static let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent(".build/kubernetes-client/usr/bin/kubectl").path

    let process = ChildProcess()
    let input = Pipe()
    private let output: URL
    private let errors: URL

    /// Starts it. What it prints goes to files, which nobody has to read meanwhile.
    ///
    /// - Parameter terminal: gives it one, by `script`.
    init(_ arguments: [String], server: KubernetesStandIn, home: String, terminal: Bool = false) throws {
        try FileManager.default.createDirectory(atPath: home, withIntermediateDirectories: true)
        let name = "kubectl-\(UUID().uuidString.prefix(8))"
        output = URL(fileURLWithPath: "\(home)/\(name).out")
        errors = URL(fileURLWithPath: "\(home)/\(name).err")
        for file in [output, errors] { FileManager.default.createFile(atPath: file.path, contents: nil) }
        let words = [Self.path, "--server=\(server.address)"] + arguments
        process.executableURL = URL(fileURLWithPath: terminal ? "/usr/bin/script" : Self.path)
        process.arguments = terminal ? ["-qec", "exec " + words.joined(separator: " "), "/dev/null"] : Array(words.dropFirst())
        process.environment = ["HOME": home, "PATH": "/usr/bin:/bin"]
        process.standardInput = input
        process.standardOutput = try FileHandle(forWritingTo: output)
        process.standardError = try FileHandle(forWritingTo: errors)
        try process.run()
    }

    var stdout: Data { (try? Data(contentsOf: output)) ?? Data() }
    var stderr: String { (try? String(contentsOf: errors, encoding: .utf8)) ?? "" }

    func write(_ bytes: Data) throws { try input.fileHandleForWriting.write(contentsOf: bytes) }
    func closeInput() throws { try input.fileHandleForWriting.close() }

    func exit(within limit: Duration = .seconds(60)) async throws -> Int32 {
        try await eventually("kubectl ends: \(stderr)", within: limit) { !process.isRunning }
        return process.terminationStatus
    }
}
