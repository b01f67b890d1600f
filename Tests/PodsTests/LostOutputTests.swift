import AgentClient
import AgentProtocol
import Errors
import Foundation
import Glibc
import Linux
import Logging
import Logs
import Runtime
import Synchronization
import Testing

/// Output whose connection or disk fails on the way to the log.
@Suite(.timeLimit(.minutes(1))) struct LostOutputTests {
    private let directory: String

    init() throws {
        directory = NSTemporaryDirectory() + "lost-\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }

    private static func frame(_ text: String, _ source: OutputSource = .stdout, end: Bool = false) -> [UInt8] {
        OutputFrame(source: source, end: end, payload: Array(text.utf8)).encoded
    }

    private static let ends = frame("", .stdout, end: true) + frame("", .stderr, end: true)

    private static func write(_ bytes: [UInt8], to connection: Int32) { _ = send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }

    /// The last acknowledgement of stdout, when one of so much has come, or no more come.
    private static func acknowledged(_ total: UInt64, on connection: Int32) -> UInt64 {
        var (last, bytes): (UInt64, [UInt8]) = (0, [UInt8](repeating: 0, count: OutputAcknowledgement.length))
        while last < total, recv(connection, &bytes, bytes.count, Int32(MSG_WAITALL)) == bytes.count {
            var queue = ByteQueue()
            queue.append(bytes)
            last = OutputAcknowledgement(from: &queue)?.stdout ?? last
        }
        return last
    }

    private func copy(to sink: any OutputSink) async throws {
        try await AgentOutput(links: AgentLinks(), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            .copy(from: .agent(.unixProxy(path: directory + "/vsock"), container: "c"), to: sink, until: OutputEnd())
    }

    /// What is in memory only is not acknowledged with the next connection: a guest would drop it, and a kill would lose it.
    @Test func aLineThatIsUnderWayWhenTheConnectionIsLostComesAgain() async throws {
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let connections = Mutex<[UInt64]>([])
        let guest = try InProcessGuest(
            at: directory + "/vsock",
            output: { connection in
                if connections.withLock({ $0.isEmpty }) {
                    Self.write(Self.frame("one\nthr"), to: connection)
                    let total = Self.acknowledged(4, on: connection)
                    connections.withLock { $0.append(total) }
                } else {
                    // From what is acknowledged on.
                    Self.write(Self.frame("thr") + Self.frame("ee\n") + Self.ends, to: connection)
                    let total = Self.acknowledged(10, on: connection)
                    connections.withLock { $0.append(total) }
                }
            })
        defer { guest.end() }
        let log = try await ContainerLog.open(
            location: LogLocation(directory: directory, path: "c.log"), positionPath: directory + "/c.position")
        try await copy(to: log)
        await log.close()
        let lines = try String(contentsOfFile: directory + "/c.log", encoding: .utf8).split(separator: "\n")
        #expect(lines.map { $0.split(separator: " ").last } == ["one", "three"])
        #expect(connections.withLock { $0.first } == 4)
    }

    /// Its disk has no room for the last line once.
    private final class FullOnce: OutputSink {
        let finished = Mutex<[StandardStream]>([])

        func received() async -> OutputOffsets { OutputOffsets() }
        func flush() async throws -> OutputOffsets { OutputOffsets() }
        func writePart(of source: StandardStream) async throws -> OutputOffsets { OutputOffsets() }
        func lose(_ count: UInt64, of source: StandardStream) async throws -> OutputOffsets { OutputOffsets() }
        func take(_ bytes: [UInt8], from source: StandardStream) async throws -> OutputOffsets { OutputOffsets() }

        func finish(_ source: StandardStream) async throws -> OutputOffsets {
            let isFirst = finished.withLock { finished in
                defer { finished.append(source) }
                return !finished.contains(source)
            }
            if isFirst, source == .stderr { throw SwiftletError(.resourceExhausted, "no room") }
            return OutputOffsets()
        }
    }

    @Test func anEndThatTheLogHasNoRoomForComesAgain() async throws {
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let guest = try InProcessGuest(
            at: directory + "/vsock",
            output: { connection in
                Self.write(Self.ends, to: connection)
                shutdown(connection, Int32(SHUT_WR))
                _ = Self.acknowledged(1, on: connection)
            })
        defer { guest.end() }
        let sink = FullOnce()
        try await copy(to: sink)
        #expect(sink.finished.withLock { $0.filter { $0 == .stderr }.count } == 2)
    }
}
