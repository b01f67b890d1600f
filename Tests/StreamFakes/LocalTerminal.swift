import Errors
import Foundation
import Glibc
import NIOCore
import StreamServer
import Support
import Synchronization

/// A shell in a terminal of its own, with what it has written so far.
package final class LocalTerminal: Sendable {
    package let shell: LocalProcess
    private let written = Mutex<[UInt8]>([])
    private let reading = Mutex<Task<Void, Never>?>(nil)

    package init(_ script: String, width: UInt16 = 113, height: UInt16 = 37) throws {
        let set = try StreamSet(stdin: true, stdout: true, stderr: false, tty: true)
        shell = try LocalProcess(["/bin/sh", "-c", script], set, TerminalSize(width: width, height: height))
        let task = Task { [self] in
            while let bytes = try? await shell.stdout?.read() { written.withLock { $0 += bytes.readableBytesView } }
        }
        reading.withLock { $0 = task }
    }

    package var text: String { written.withLock { String(decoding: $0, as: UTF8.self) } }

    package func type(_ text: String) async throws { try await shell.stdin?.write(ByteBuffer(string: text)) }

    /// The shell's child, `swiftlet`.
    package func child() throws -> pid_t {
        let children = try String(contentsOfFile: "/proc/\(shell.pid)/task/\(shell.pid)/children", encoding: .utf8)
        guard let pid = children.split(separator: " ").first.flatMap({ pid_t($0) }) else { throw SwiftletError(.notFound, "no child") }
        return pid
    }

    package func shows(_ text: String) async throws {
        try await eventually("\(text) is shown: \(self.text.debugDescription)") { self.text.contains(text) }
    }

    /// Waits for the shell's end. - Returns: the lines that it wrote.
    package func end() async throws -> [String] {
        _ = try await shell.wait()
        await reading.withLock { $0 }?.value
        await shell.end()
        return text.split(separator: "\r\n").map(String.init)
    }

    /// The terminal's modes among lines, as `stty -g` writes them.
    package static func modes(_ lines: [String]) -> [String] { lines.filter { $0.split(separator: ":").count > 20 } }

    /// Whether the mode that the script has shown first is the one that it has shown last.
    package static func isRestored(_ lines: [String]) -> Bool {
        let modes = modes(lines)
        return modes.count == 2 && modes[0] == modes[1]
    }
}
