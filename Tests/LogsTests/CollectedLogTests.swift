import Foundation
import Logging
import Runtime
import Synchronization
import Testing

@testable import Logs

/// Keeps what it is given.
private final class KeptLines: LogCollector, CollectedLog {
    let lines = Mutex<[UInt8]>([])
    let opened = Mutex<[String: ContainerNames?]>([:])

    func collect(_ container: String, _ names: ContainerNames?) -> any CollectedLog {
        opened.withLock { $0[container] = names }
        return self
    }

    func take(_ lines: [UInt8]) { self.lines.withLock { $0 += lines } }

    var text: String { String(decoding: lines.withLock { $0 }, as: UTF8.self) }
}

@Suite(.timeLimit(.minutes(1))) struct CollectedLogTests {
    private let directory: String

    init() throws {
        directory = NSTemporaryDirectory() + "swiftlet-collected-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }

    @Test func aCollectorGetsTheLinesOfTheFileAsTheyAreThere() async throws {
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let kept = KeptLines()
        let log = try await ContainerLog.open(location: LogLocation(directory: directory, path: "c.log"), positionPath: directory + "/p")
        await log.collect(kept)
        _ = try await log.take(Array("one\ntw".utf8), from: .stdout)
        #expect(kept.text.hasSuffix(" stdout F one\n"))
        _ = try await log.take(Array("x\n".utf8) + [UInt8](repeating: 0x61, count: 20_000), from: .stderr)
        _ = try await log.drop(10, from: .stdout)
        _ = try await log.finish(.stdout)
        _ = try await log.finish(.stderr)
        await log.close()
        let file = try String(contentsOfFile: directory + "/c.log", encoding: .utf8)
        #expect(kept.text == file && file.contains(" F:dropped ") && file.contains(" P aaa"))
    }

    @Test func aContainerWithoutALogIsCollectedToo() async throws {
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let kept = KeptLines()
        let output = LocalOutput(directory: directory, reader: OneLine(), collector: kept, logger: Logger(label: "test"))
        let names = ContainerNames(namespace: "n", pod: "p", podUID: "u", container: "c", attempt: 1)
        try await output.open(LogTarget(container: "c", directory: "", path: "", names: names))
        try output.follow("c", from: .agent(.unixProxy(path: "/none"), container: "c"))
        try await output.drained("c")
        #expect(kept.opened.withLock { $0 } == ["c": names] && kept.text.hasSuffix(" stdout F line\n"))
    }
}

private struct OneLine: OutputReader {
    func copy(from endpoint: OutputEndpoint, to sink: any OutputSink, until end: OutputEnd) async throws {
        _ = try await sink.take(Array("line\n".utf8), from: .stdout)
    }
}
