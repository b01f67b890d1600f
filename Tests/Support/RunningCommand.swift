import Foundation
import Glibc

/// A command that runs beside the test, with its output in files, so that nobody has to read it in time.
public final class RunningCommand: Sendable {
    private let process: ChildProcess
    private let files: (output: URL, errors: URL)
    private let ended: Task<Int32, Never>

    /// - Parameter directory: where the files are.
    public init(_ program: String, _ arguments: [String], environment: [String: String], in directory: String) throws {
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let name = "\(directory)/command-\(UUID().uuidString.prefix(8))"
        files = (URL(fileURLWithPath: name + ".out"), URL(fileURLWithPath: name + ".err"))
        for file in [files.output, files.errors] { try Data().write(to: file) }
        let process = ChildProcess()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.environment = environment
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = try FileHandle(forWritingTo: files.output)
        process.standardError = try FileHandle(forWritingTo: files.errors)
        let (statuses, continuation) = AsyncStream.makeStream(of: Int32.self)
        process.terminationHandler = { continuation.yield($0.terminationStatus) }
        ended = Task {
            for await status in statuses { return status }
            return -1
        }
        try process.run()
        self.process = process
    }

    public var output: String { (try? String(contentsOf: files.output, encoding: .utf8)) ?? "" }
    public var errors: String { (try? String(contentsOf: files.errors, encoding: .utf8)) ?? "" }

    public func kill(_ signal: Int32) { if process.isRunning { Glibc.kill(process.processIdentifier, signal) } }

    /// Waits for the command's end.
    public func status() async -> Int32 { await ended.value }

    /// Of `port-forward`: the ports that are listened on at 127.0.0.1, once there are so many.
    public func forwardedPorts(_ count: Int) async throws -> [(local: UInt16, remote: UInt16)] {
        var ports: [(local: UInt16, remote: UInt16)] = []
        try await eventually("\(count) ports are forwarded: \(errors)") {
            ports = output.matches(of: /Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)\n/).compactMap { match in
                guard let local = UInt16(match.1), let remote = UInt16(match.2) else { return nil }
                return (local, remote)
            }
            return ports.count == count
        }
        return ports
    }
}
