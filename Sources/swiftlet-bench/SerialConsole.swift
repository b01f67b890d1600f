import Concurrency
import Errors
import Foundation
import Glibc

/// What a virtual machine writes to its serial console, at full speed and between two marks.
struct SerialConsole: Sendable {
    static let begin = "[[[\n"
    static let end = "]]]\n"
    private static let line = String(String(repeating: "0123456789", count: 10).dropLast()) + "\n"

    /// A multiple of a line's 100.
    let bytes: Int

    /// What a machine is given to run: the bytes as they are, and before and after them its own clock.
    var script: String {
        """
        #!/bin/sh
        stty -F /dev/ttyS0 -opost
        yes '\(Self.line.dropLast())' | head -c \(bytes) >/run/flood
        echo '\(Self.begin.dropLast())' >/dev/ttyS0
        read before idle </proc/uptime
        cat /run/flood >/dev/ttyS0
        read after idle </proc/uptime
        rm /run/flood
        printf '\(Self.end.dropLast())\\nflood: %s %s\\n' "$before" "$after" >/dev/ttyS0

        """
    }

    /// Waits for the mark before the bytes.
    ///
    /// - Parameter output: what a machine wrote, of what a file holds.
    /// - Returns: seconds of the processors that its QEMU has used by then.
    func begun(
        in file: String, of pid: Int32, within limit: Duration, _ output: @escaping @Sendable (Data) -> [UInt8]
    ) async throws -> Double {
        try await Self.found("\(file) has no mark", within: limit) {
            guard let data = FileManager.default.contents(atPath: file), output(data).firstRange(of: Array(Self.begin.utf8)) != nil else {
                return nil
            }
            return ProcessorTime.seconds(of: pid)
        }
    }

    /// How long it took, by the machine's clock, and whether every byte is there; nil while the end is missing.
    func outcome(in output: [UInt8]) -> (time: Duration, isWhole: Bool)? {
        let text = output[...]
        guard let begin = text.firstRange(of: Array(Self.begin.utf8)),
            let end = text[begin.upperBound...].firstRange(of: Array(Self.end.utf8)),
            let newline = text[end.upperBound...].firstIndex(of: UInt8(ascii: "\n"))
        else { return nil }
        let words = String(decoding: text[end.upperBound..<newline], as: UTF8.self).split(separator: " ")
        guard words.count == 3, words[0] == "flood:", let before = Double(words[1]), let after = Double(words[2].filter { $0 != "\r" })
        else { return nil }
        let between = text[begin.upperBound..<end.lowerBound]
        let line = Array(Self.line.utf8)
        let isWhole = between.count == bytes && between.enumerated().allSatisfy { line[$0 % line.count] == $1 }
        return (.milliseconds(Int64(((after - before) * 1000).rounded())), isWhole)
    }

    /// What a container wrote, from its log in the CRI's format: "TIME STREAM F|P TEXT".
    static func output(ofLog log: [UInt8]) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(log.count)
        for line in log.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            let fields = line.split(separator: UInt8(ascii: " "), maxSplits: 3, omittingEmptySubsequences: false)
            guard fields.count == 4 else { continue }
            output += fields[3]
            if fields[2].elementsEqual("F".utf8) { output.append(UInt8(ascii: "\n")) }
        }
        return output
    }

    /// Waits for a file's first byte; looks every millisecond.
    static func firstByte(of file: String, within limit: Duration) async throws -> ContinuousClock.Instant {
        try await OwnThread.run {
            let deadline = ContinuousClock.now + limit
            var information = stat()
            while stat(file, &information) != 0 || information.st_size == 0 {
                guard ContinuousClock.now < deadline else { throw SwiftletError(.deadlineExceeded, "\(file) stays empty") }
                usleep(1000)
            }
            return .now
        }
    }

    /// Waits until a look at something finds it; looks ten times a second.
    static func found<Value: Sendable>(
        _ what: String, within limit: Duration, _ look: @escaping @Sendable () -> Value?
    ) async throws -> Value {
        let deadline = ContinuousClock.now + limit
        while true {
            if let value = look() { return value }
            guard ContinuousClock.now < deadline else { throw SwiftletError(.deadlineExceeded, what) }
            try await Task.sleep(for: .milliseconds(100))
        }
    }
}
