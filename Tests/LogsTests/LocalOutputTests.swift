import Concurrency
import Errors
import Foundation
import Logging
import Runtime
import Synchronization
import Testing

@testable import Logs

/// Gives each container what the test lets it write.
private final class PlayedOutput: OutputReader {
    private let state = Mutex((copies: 0, streams: [String: AsyncStream<String>]()))

    var copies: Int { state.withLock { $0.copies } }

    func writer(of container: String) -> AsyncStream<String>.Continuation {
        let (stream, writer) = AsyncStream<String>.makeStream()
        state.withLock { $0.streams[container] = stream }
        return writer
    }

    func copy(from endpoint: OutputEndpoint, to sink: any OutputSink, until end: OutputEnd) async throws {
        guard case .agent(_, let container) = endpoint else { return }
        let stream = state.withLock { state in
            state.copies += 1
            return state.streams[container]
        }
        guard let stream else { throw SwiftletError(.unavailable, "no such container") }
        for await text in stream { _ = try await sink.take(Array(text.utf8), from: .stdout) }
        try Task.checkCancellation()
        _ = try await sink.finish(.stdout)
    }
}

/// An opening that the test holds, as a disk does that hangs.
private final class HeldOpening: Sendable {
    private let began = AsyncStream<Void>.makeStream()
    private let goes = AsyncStream<Void>.makeStream()

    func open(_ location: LogLocation?, _ rotation: LogRotation?, _ position: String) async throws -> ContainerLog {
        began.continuation.finish()
        for await _ in goes.stream {}
        return try await ContainerLog.open(location: location, positionPath: position)
    }

    func hasBegun() async { for await _ in began.stream {} }
    func go() { goes.continuation.finish() }
}

@Suite(.timeLimit(.minutes(1))) struct LocalOutputTests {
    private let directory: String
    private let reader = PlayedOutput()
    private let endpoint = OutputEndpoint.agent(.unixProxy(path: "/none"), container: "c")

    init() throws {
        directory = NSTemporaryDirectory() + "swiftlet-output-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }

    private var target: LogTarget { LogTarget(container: "c", directory: directory, path: "c.log") }

    private func output(_ opening: HeldOpening? = nil) -> LocalOutput {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        guard let opening else { return LocalOutput(directory: directory, reader: reader, logger: logger) }
        return LocalOutput(directory: directory, reader: reader, logger: logger) { try await opening.open($0, $1, $2) }
    }

    private func lines() throws -> [String] {
        try String(contentsOfFile: directory + "/c.log", encoding: .utf8).split(separator: "\n").compactMap {
            $0.split(separator: " ", maxSplits: 3).last.map(String.init)
        }
    }

    private func remove() { try? FileManager.default.removeItem(atPath: directory) }

    @Test func outputIsCopiedOnceUntilItsEnd() async throws {
        defer { remove() }
        let output = output()
        let writer = reader.writer(of: "c")
        try await output.open(target)
        try await output.open(target)
        await expectRefusal { try await output.drained("c") }
        try output.follow("c", from: endpoint)
        try output.follow("c", from: endpoint)
        writer.yield("one\ntwo\n")
        writer.finish()
        try await output.drained("c")
        #expect(reader.copies == 1)
        #expect(try lines() == ["one", "two"])
    }

    @Test func theNextProcessGoesOnBehindWhatIsWritten() async throws {
        defer { remove() }
        let first = output()
        let writer = reader.writer(of: "c")
        try await first.open(target)
        try first.follow("c", from: endpoint)
        writer.yield("one\n")
        writer.finish()
        try await first.drained("c")
        first.close("c")
        let second = output()
        let more = reader.writer(of: "c")
        try await second.open(target)
        try second.follow("c", from: endpoint)
        more.yield("two\n")
        more.finish()
        try await second.drained("c")
        #expect(try lines() == ["one", "two"])
        await second.remove("c")
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["c.log"], "no position is left")
    }

    @Test func aLogIsReopenedOnlyWhenItIsOpen() async throws {
        defer { remove() }
        let output = output()
        await expectRefusal { try await output.reopen("c") }
        try await output.open(target)
        try FileManager.default.moveItem(atPath: directory + "/c.log", toPath: directory + "/c.log.1")
        try await output.reopen("c")
        #expect(FileManager.default.fileExists(atPath: directory + "/c.log"))
        output.close("c")
        output.close("c")
        await expectRefusal { try await output.reopen("c") }
    }

    private func expectRefusal(_ code: SwiftletError.Code = .failedPrecondition, _ body: () async throws -> Void) async {
        let error = await #expect(throws: SwiftletError.self) { try await body() }
        #expect(error?.code == code)
    }

    @Test func whoWaitsForALogThatIsClosedIsToldSo() async throws {
        defer { remove() }
        let output = output()
        let writer = reader.writer(of: "c")
        defer { writer.finish() }
        try await output.open(target)
        try output.follow("c", from: endpoint)
        let follower = try output.attach("c")
        let waiting = Task { try await output.drained("c") }
        await output.keep(only: ["other"], forget: false)
        await expectRefusal(.notFound) { try await waiting.value }
        await expectRefusal(.notFound) { try await output.drained("c") }
        await expectRefusal { _ = try output.attach("c") }
        #expect(await follower.read(.stdout) == nil, "who watches sees the end")
        #expect(FileManager.default.fileExists(atPath: directory + "/c.position"))
        await output.keep(only: ["other"], forget: true)
        #expect(!FileManager.default.fileExists(atPath: directory + "/c.position"))
    }

    /// A container may be stopped and removed while the disk of its log hangs.
    @Test(arguments: [false, true]) func aLogThatIsOpenedTooLateIsNotKept(removed: Bool) async throws {
        defer { remove() }
        let opening = HeldOpening()
        let output = output(opening)
        let open = Task { try await output.open(target) }
        await opening.hasBegun()
        output.close("c")
        if removed { await output.remove("c") }
        opening.go()
        let error = await #expect(throws: SwiftletError.self) { try await open.value }
        #expect(error?.code == .aborted)
        await expectRefusal(.notFound) { try output.follow("c", from: endpoint) }
        #expect(reader.copies == 0)
        #expect(FileManager.default.fileExists(atPath: directory + "/c.position") == !removed)
    }

    @Test func aLogThatCannotBeOpenedMayBeTriedAgain() async throws {
        defer { remove() }
        let output = output()
        let wrong = LogTarget(container: "c", directory: directory + "/missing", path: "c.log")
        await expectRefusal { try await output.open(wrong) }
        try await output.open(target)
        try output.follow("c", from: endpoint)
        try await output.drained("c")
    }

    /// They become files' names.
    @Test(arguments: ["", ".", "..", "../c", "/c", "a/b", "a\0b", "a b", String(repeating: "c", count: 201)])
    func anIDThatIsNoNameIsRefused(_ id: String) async throws {
        defer { remove() }
        let output = output()
        try FileManager.default.createDirectory(atPath: directory + "/inner", withIntermediateDirectories: true)
        let kept = directory + "/c.position"
        #expect(FileManager.default.createFile(atPath: kept, contents: nil))
        let inner = LocalOutput(directory: directory + "/inner", reader: reader, logger: Logger(label: "test"))
        for output in [output, inner] {
            await expectRefusal(.invalidArgument) { try await output.open(LogTarget(container: id, directory: directory, path: "c.log")) }
            await output.remove(id)
        }
        #expect(FileManager.default.fileExists(atPath: kept))
    }
}
