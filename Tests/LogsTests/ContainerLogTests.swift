import Errors
import Foundation
import Support
import Testing

@testable import Logs

/// A directory that goes away with the test.
private final class Scratch {
    let path = NSTemporaryDirectory() + "swiftlet-logs-" + UUID().uuidString
    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    var log: String { path + "/c.log" }
    var position: String { path + "/c.position" }
    func open() async throws -> ContainerLog {
        try await ContainerLog.open(location: LogLocation(directory: path, path: "c.log"), positionPath: position)
    }
    func lines() throws -> [[String]] {
        try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n", omittingEmptySubsequences: true)
            .map { $0.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false).map(String.init) }
    }
}

@Suite struct ContainerLogTests {
    @Test func linesCarryTimeSourceAndTag() async throws {
        let scratch = try Scratch()
        let log = try await scratch.open()
        _ = try await log.take(Array("hello\nwor".utf8), from: .stdout)
        let written = try await log.take(Array("oops\n".utf8), from: .stderr)
        #expect(written.stdout == 6 && written.stderr == 5)
        _ = try await log.take(Array("ld\n\n".utf8), from: .stdout)
        let lines = try scratch.lines()
        #expect(lines.map { $0[1] } == ["stdout", "stderr", "stdout", "stdout"])
        #expect(lines.map { $0[2] } == ["F", "F", "F", "F"])
        #expect(lines.map { $0[3] } == ["hello", "oops", "world", ""])
        #expect(lines[0][0].wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z/) != nil)
    }

    @Test func aLongLineIsSplitInPiecesOf16KiB() async throws {
        let scratch = try Scratch()
        let log = try await scratch.open()
        let line = [UInt8](repeating: 0x61, count: 40000)
        for chunk in stride(from: 0, to: line.count, by: 7000) {
            _ = try await log.take(Array(line[chunk..<min(chunk + 7000, line.count)]), from: .stdout)
        }
        _ = try await log.take([0x0A], from: .stdout)
        let lines = try scratch.lines()
        #expect(lines.map { $0[2] } == ["P", "P", "F"])
        #expect(lines.map { $0[3].count } == [16384, 16384, 7232])
    }

    @Test func aLineOfExactly16KiBIsOnePiece() async throws {
        let scratch = try Scratch()
        let log = try await scratch.open()
        _ = try await log.take([UInt8](repeating: 0x61, count: 16384) + [0x0A], from: .stdout)
        #expect(try scratch.lines().map { $0[2] } == ["F"])
    }

    @Test func anUnfinishedLastLineIsWrittenAtTheEnd() async throws {
        let scratch = try Scratch()
        let log = try await scratch.open()
        let before = try await log.take(Array("no newline".utf8), from: .stdout)
        #expect(before.stdout == 0)
        let after = try await log.finish(.stdout)
        #expect(after.stdout == 10)
        #expect(try scratch.lines().map { [$0[2], $0[3]] } == [["P", "no newline"], ["F", ""]])
    }

    /// The daemon is killed before it notes the position: the next one counts what the log holds.
    @Test(arguments: [1, 16383, 16384, 16385, 40000])
    func aClosedLastLineCountsNoEndThatItsSourceHasNotWritten(_ length: Int) async throws {
        let scratch = try Scratch()
        let first = try await scratch.open()
        _ = try await first.take(Array("whole\n\n".utf8), from: .stdout)
        let noted = try Data(contentsOf: URL(fileURLWithPath: scratch.position))
        _ = try await first.take([UInt8](repeating: UInt8(ascii: "x"), count: length), from: .stdout)
        _ = try await first.finish(.stdout)
        await first.close()
        let lines = try scratch.lines()
        #expect(lines.last?[2] == "F" && lines.map { $0[3] }.joined().count == "whole".count + length)
        try noted.write(to: URL(fileURLWithPath: scratch.position))
        let second = try await scratch.open()
        #expect(await second.received().stdout == UInt64("whole\n\n".utf8.count + length))
        await second.close()
    }

    @Test func aReopenedLogGoesOnInANewFileBetweenLines() async throws {
        let scratch = try Scratch()
        let log = try await scratch.open()
        _ = try await log.take(Array("one\ntw".utf8), from: .stdout)
        try FileManager.default.moveItem(atPath: scratch.log, toPath: scratch.log + ".1")
        try await log.reopen()
        _ = try await log.take(Array("o\nthree\n".utf8), from: .stdout)
        #expect(try String(contentsOfFile: scratch.log + ".1", encoding: .utf8).hasSuffix(" one\n"))
        #expect(try scratch.lines().map { $0[3] } == ["two", "three"])
        await log.close()
        let next = try await scratch.open()
        #expect(await next.received().stdout == 14)
    }

    @Test func aLineOfSeveralPiecesStaysInOneFile() async throws {
        let scratch = try Scratch()
        let log = try await scratch.open()
        _ = try await log.take([UInt8](repeating: 0x61, count: 20000), from: .stdout)
        try FileManager.default.moveItem(atPath: scratch.log, toPath: scratch.log + ".1")
        async let reopened: Void = log.reopen()
        // Not there before the line ends; the reopening waits two seconds for that.
        _ = try await log.take([UInt8](repeating: 0x62, count: 100), from: .stdout)
        _ = try await log.take([0x0A], from: .stdout)
        try await reopened
        _ = try await log.take(Array("next\n".utf8), from: .stdout)
        #expect(try scratch.lines().map { $0[3] } == ["next"])
        let old = try String(contentsOfFile: scratch.log + ".1", encoding: .utf8).split(separator: "\n")
        #expect(old.map { $0.split(separator: " ")[2] } == ["P", "F"])
    }

    @Test func aLineWithoutEndDoesNotHoldUpARotation() async throws {
        let scratch = try Scratch()
        let log = try await scratch.open()
        _ = try await log.take([UInt8](repeating: 0x61, count: 20000), from: .stderr)
        try FileManager.default.moveItem(atPath: scratch.log, toPath: scratch.log + ".1")
        try await log.reopen()
        #expect(FileManager.default.fileExists(atPath: scratch.log))
    }

    @Test func aLogThatCannotBeReopenedGoesOnInTheOldFile() async throws {
        let scratch = try Scratch()
        let log = try await scratch.open()
        try FileManager.default.moveItem(atPath: scratch.log, toPath: scratch.log + ".1")
        try FileManager.default.createSymbolicLink(atPath: scratch.log, withDestinationPath: "/etc/passwd")
        let error = await #expect(throws: SwiftletError.self) { try await log.reopen() }
        #expect(error?.code == .failedPrecondition)
        _ = try await log.take(Array("kept\n".utf8), from: .stdout)
        #expect(try String(contentsOfFile: scratch.log + ".1", encoding: .utf8).hasSuffix(" kept\n"))
    }

    @Test func aRestartContinuesWhereTheLogEnds() async throws {
        let scratch = try Scratch()
        let first = try await scratch.open()
        _ = try await first.take(Array("one\ntwo\nthr".utf8), from: .stdout)
        await first.close()
        let second = try await scratch.open()
        #expect(await second.received().stdout == 8)
        _ = try await second.take(Array("three\n".utf8), from: .stdout)
        #expect(try scratch.lines().map { $0[3] } == ["one", "two", "three"])
    }

    @Test func linesWrittenBeforeAKillButNotNotedAreCounted() async throws {
        let scratch = try Scratch()
        let first = try await scratch.open()
        _ = try await first.take(Array("one\n".utf8), from: .stdout)
        await first.close()
        let handle = try #require(FileHandle(forUpdatingAtPath: scratch.log))
        try handle.seekToEnd()
        let time = "2026-01-01T00:00:00.000000000Z"
        try handle.write(contentsOf: Data("\(time) stdout F two\n\(time) stderr P ab\n2026-".utf8))
        try handle.close()
        let second = try await scratch.open()
        let written = await second.received()
        #expect(written.stdout == 8 && written.stderr == 2)
        _ = try await second.take(Array("three\n".utf8), from: .stdout)
        #expect(try scratch.lines().map { $0[3] } == ["one", "two", "ab", "three"])
    }

    @Test func aContainerWithoutALogStillCounts() async throws {
        let scratch = try Scratch()
        let log = try await ContainerLog.open(location: nil, positionPath: scratch.path + "/p")
        let written = try await log.take(Array("gone\n".utf8), from: .stdout)
        #expect(written.stdout == 5)
    }

    @Test func aMissingLogDirectoryIsNamed() async throws {
        await #expect(throws: (any Error).self) {
            try await ContainerLog.open(location: LogLocation(directory: "/nonexistent/dir", path: "x.log"), positionPath: "/dev/null")
        }
    }

    /// Two processes would write each line twice.
    @Test func aLogThatAnotherProcessWritesIsRefusedUntilItHasEnded() async throws {
        let scratch = try Scratch()
        let holder = ChildProcess()
        holder.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
        let script =
            "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
        holder.arguments = ["-c", script, scratch.position]
        let (input, output) = (Pipe(), Pipe())
        (holder.standardInput, holder.standardOutput) = (input, output)
        try holder.run()
        #expect(try output.fileHandleForReading.read(upToCount: 5) == Data("held\n".utf8))
        let error = await #expect(throws: SwiftletError.self) { try await scratch.open() }
        #expect(error?.code == .failedPrecondition && error.map { "\($0)" }?.contains("somebody else") == true)
        let opening = Task { try await scratch.open() }
        kill(holder.processIdentifier, SIGKILL)
        await (try opening.value).close()
    }

    /// A log that was closed may still wait for its disk when it is opened again, and its end must not give the new one's lock back.
    @Test func aLogHasOneWriterWithinAProcessToo() async throws {
        let scratch = try Scratch()
        let first = try await scratch.open()
        let error = await #expect(throws: SwiftletError.self) { try await scratch.open() }
        #expect(error?.code == .failedPrecondition)
        let (path, position) = (scratch.path, scratch.position)
        let second = Task {
            try await ContainerLog.open(location: LogLocation(directory: path, path: "c.log"), positionPath: position)
        }
        _ = try await first.take(Array("one\n".utf8), from: .stdout)
        await first.close()
        let log = try await second.value
        #expect(await log.received().stdout == 4)
        await #expect(throws: SwiftletError.self) { try await scratch.open() }
        await log.close()
    }

    @Test func whatSomebodyPutInTheLogsPlaceIsRefused() async throws {
        let scratch = try Scratch()
        let files = FileManager.default
        try files.createDirectory(atPath: scratch.path + "/elsewhere", withIntermediateDirectories: true)
        try files.createSymbolicLink(atPath: scratch.path + "/link.log", withDestinationPath: scratch.path + "/elsewhere/target")
        try files.createSymbolicLink(atPath: scratch.path + "/sub", withDestinationPath: scratch.path + "/elsewhere")
        try Data().write(to: URL(fileURLWithPath: scratch.path + "/one"))
        try files.linkItem(atPath: scratch.path + "/one", toPath: scratch.path + "/hard.log")
        mkfifo(scratch.path + "/pipe.log", 0o600)
        for path in ["link.log", "sub/x.log", "hard.log", "pipe.log", "../x.log", "elsewhere"] {
            await #expect(throws: (any Error).self, "\(path)") {
                try await ContainerLog.open(location: LogLocation(directory: scratch.path, path: path), positionPath: scratch.path + "/p")
            }
        }
        #expect(try files.contentsOfDirectory(atPath: scratch.path + "/elsewhere").isEmpty)
    }
}
