import Errors
import Foundation
import Glibc
import Logging
import Logs
import Runtime
import Support
import Testing

@testable import ConsoleOutput

/// A console's file as QEMU writes it, and the log that it is copied to.
final class ConsoleGround: Sendable {
    let directory: String
    private let writer: Int32

    init(withFile: Bool = true) throws {
        directory = NSTemporaryDirectory() + "swiftlet-console-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        writer = withFile ? open(directory + "/console", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600) : -1
    }

    deinit {
        if writer >= 0 { close(writer) }
        try? FileManager.default.removeItem(atPath: directory)
    }

    var console: String { directory + "/console" }
    var socket: String { directory + "/s" }
    var endpoint: OutputEndpoint { .console(log: console, socket: socket) }

    func write(_ text: String) { write(Array(text.utf8)) }

    func write(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(writer, $0.baseAddress, $0.count) }
            precondition(count > 0)
            rest = rest.dropFirst(count)
        }
    }

    /// The next process, which copies to the log.
    func output(_ budget: LogBudget? = nil) async throws -> LocalOutput {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let output = LocalOutput(directory: directory, reader: ConsoleReader(logger: logger), logger: logger)
        try await output.open(LogTarget(container: "c", directory: directory, path: "log", budget: budget))
        try output.follow("c", from: endpoint)
        return output
    }

    /// Tags and contents of the log's lines.
    func lines() throws -> [String] {
        try String(contentsOfFile: directory + "/log", encoding: .utf8).split(separator: "\n").map { line in
            line.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false).last.map(String.init) ?? ""
        }
    }

    /// The log's text as kubectl shows it.
    func text() throws -> String {
        try lines().map { line in line.hasPrefix("P ") ? String(line.dropFirst(2)) : String(line.dropFirst(2)) + "\n" }.joined()
    }

    /// Bytes that the console's file takes on the disk.
    func taken() throws -> Int {
        var status = stat()
        guard stat(console, &status) == 0 else { throw SwiftletError.system("stat") }
        return Int(status.st_blocks) * 512
    }
}
