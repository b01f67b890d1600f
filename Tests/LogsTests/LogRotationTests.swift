import CLinux
import Errors
import Foundation
import Glibc
import Runtime
import Testing

@testable import Logs

/// A log in a directory of its own, on a disk of its own where a size is given.
private final class Files {
    let directory = NSTemporaryDirectory() + "swiftlet-rotation-" + UUID().uuidString
    private let isMounted: Bool

    /// - Parameter size: of the disk, as tmpfs(5) has it.
    init(size: String? = nil) throws {
        try FileManager.default.createDirectory(atPath: directory + "/logs", withIntermediateDirectories: true)
        isMounted = size != nil
        if let size { try #require(clinux_mount("tmpfs", directory + "/logs", "tmpfs", 0, "size=\(size)") == 0) }
    }

    deinit {
        if isMounted { _ = clinux_detach_mount(directory + "/logs") }
        try? FileManager.default.removeItem(atPath: directory)
    }

    var log: String { directory + "/logs/c.log" }
    var position: String { directory + "/c.position" }

    func open(_ size: UInt64 = 1000, files: Int = 1000) throws -> LogFile {
        try LogFile(
            location: LogLocation(directory: directory, path: "logs/c.log"), positionPath: position,
            rotation: LogRotation(maxSize: size, maxFiles: files))
    }

    /// The earlier files, the oldest first.
    func rotated() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: directory + "/logs").filter { $0.hasPrefix("c.log.") }.sorted()
    }

    func text(_ name: String) throws -> String { try String(contentsOfFile: directory + "/logs/" + name, encoding: .utf8) }

    /// What the container has written, by all files.
    func output() throws -> String {
        let present = FileManager.default.fileExists(atPath: log) ? ["c.log"] : []
        return try (rotated() + present).map { try text($0) }.joined().split(separator: "\n").map { line in
            let fields = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false)
            return fields[3] + (fields[2] == "F" ? "\n" : "")
        }.joined()
    }
}

extension LogFile {
    /// As ``ContainerLog/take(_:from:)`` does it.
    fileprivate mutating func write(_ text: String) throws {
        try append(Array(text.utf8), from: .stdout)
        try rotateIfFull()
    }
}

private func numbers(_ range: ClosedRange<Int>) -> String { range.map { "line \($0)\n" }.joined() }

@Suite struct LogRotationTests {
    @Test func aFullLogGoesOnInANewFileBetweenLines() throws {
        let files = try Files()
        var file = try files.open()
        var text = numbers(1...500)
        // Pieces of sizes that have nothing to do with lines.
        for size in [1, 7, 33, 250].cycled(12) {
            try file.write(String(text.prefix(size)))
            text = String(text.dropFirst(size))
        }
        file.close()
        let rotated = try files.rotated()
        #expect(rotated.count >= 10 && rotated.count <= 24)
        for name in rotated {
            let size = try files.text(name).utf8.count
            // A piece of 250 bytes is 30 lines of 40 bytes more.
            #expect(size >= 1000 && size < 1000 + 32 * 50 && name.wholeMatch(of: /c\.log\.\d{8}-\d{6}_\d{3}/) != nil, "\(name): \(size)")
        }
        #expect(try files.output() == numbers(1...500).prefix(291 * 12).droppingUnfinishedLine())
    }

    @Test func aLineOfSeveralPiecesStaysInOneFileUnlessItMakesItTwiceAsLarge() throws {
        let files = try Files()
        var file = try files.open(20_000)
        try file.write(String(repeating: "a", count: 16384 + 5000))
        try file.write(String(repeating: "a", count: 10_000))
        try file.write("b\n")
        #expect(try files.rotated().isEmpty == false)
        let first = try files.text(files.rotated()[0]).split(separator: "\n")
        #expect(first.map { $0.split(separator: " ")[2] } == ["P", "F"])
        // This one has no end, and standard error has nothing to do with it.
        try file.write(String(repeating: "c", count: 16384 * 5))
        #expect(try files.rotated().count == 2)
        try file.append(Array("error\n".utf8), from: .stderr)
        file.close()
        #expect(try files.output().filter { $0 == "c" }.count == 16384 * 4)
    }

    @Test func theOldestFilesBeyondTheirNumberAreRemoved() throws {
        let files = try Files()
        for name in ["20200101-000000", "20200102-000000.gz", "20200103-000000_000", "1", "20200101", "20200104-000000.tmp"] {
            try Data((name.hasSuffix("_000") ? "" : "old\n").utf8).write(to: URL(fileURLWithPath: "\(files.log).\(name)"))
        }
        var file = try files.open(files: 4)
        try file.write(numbers(1...30))
        #expect(
            try files.rotated().filter { $0.hasPrefix("c.log.2020") }
                == ["c.log.20200101", "c.log.20200101-000000", "c.log.20200102-000000.gz", "c.log.20200104-000000.tmp"])
        for part in 1...5 { try file.write(numbers(part * 100...part * 100 + 30)) }
        file.close()
        let left = try files.rotated()
        #expect(left.count == 6 && left.filter { $0.contains("_") }.count == 3)
        #expect(left.filter { !$0.contains("_") } == ["c.log.1", "c.log.20200101", "c.log.20200104-000000.tmp"])
    }

    /// The process ends between two steps, and before it has noted its last lines.
    @Test(arguments: 0...5, [false, true]) func noLineIsLostOrDoubledByAKillBetweenTheSteps(_ steps: Int, _ isNoted: Bool) throws {
        let files = try Files()
        let rotation = LogRotation(maxSize: 1000, maxFiles: 1000)
        var file = try files.open(UInt64.max)
        try file.write(numbers(1...20))
        let noted = try Data(contentsOf: URL(fileURLWithPath: files.position))
        try file.append(Array(numbers(21...40).utf8), from: .stdout)
        do {
            let parent = try LogParent(LogLocation(directory: files.directory, path: "logs/c.log"))
            let name = steps >= 1 ? try file.reserveName(parent) : ""
            if steps >= 2 { try parent.rename(parent.name, to: name) }
            let next = steps >= 3 ? try parent.create(parent.name) : -1
            if steps >= 4 { try file.goOn(in: next) } else if next >= 0 { close(next) }
            if steps >= 5 { file.removeOldest(parent, rotation) }
        }
        file.close()
        if !isNoted, steps < 4 {
            try noted.write(to: URL(fileURLWithPath: files.position))
            // Half a line, whose rest the guest sends again as a whole.
            let last = steps >= 2 ? "\(files.directory)/logs/\(try files.rotated()[0])" : files.log
            let handle = try #require(FileHandle(forWritingAtPath: last))
            try handle.seekToEnd()
            try handle.write(contentsOf: Data("2026-01-02T03:04:05.000000006Z stdout F line 4".utf8))
            try handle.close()
        }
        var next = try files.open()
        #expect(next.taken.stdout == UInt64(numbers(1...40).utf8.count))
        for line in 41...200 { try next.write("line \(line)\n") }
        next.close()
        #expect(try files.output() == numbers(1...200))
        #expect(try files.rotated().count >= 4)
        for name in try files.rotated() { #expect(try !files.text(name).isEmpty) }
    }

    /// Of each kill the position is one that was noted at some moment since the last rotation.
    @Test func aLogThatIsKilledAgainAndAgainIsWholeAndExact() throws {
        let files = try Files()
        var generator = SystemRandomNumberGenerator()
        let text = Array(numbers(1...3000).utf8)
        var kills = 0
        var file = try files.open()
        while file.position.stdout < text.count {
            let noted = try Data(contentsOf: URL(fileURLWithPath: files.position))
            let before = try files.rotated().count
            let start = Int(file.taken.stdout)
            let size = Int.random(in: 1...200, using: &generator)
            try file.append(Array(text[start..<min(start + size, text.count)]), from: .stdout)
            try file.rotateIfFull()
            guard Int.random(in: 0..<8, using: &generator) == 0 else { continue }
            kills += 1
            file.close()
            if try files.rotated().count == before { try noted.write(to: URL(fileURLWithPath: files.position)) }
            file = try files.open()
        }
        file.close()
        #expect(kills > 10)
        #expect(try files.output() == numbers(1...3000))
    }

    @Test func aLogThatTheKubeletHasRenamedIsLeftToIt() throws {
        let files = try Files()
        var file = try files.open()
        try file.write(numbers(1...5))
        let renamed = files.log + ".20260101-000000"
        try FileManager.default.moveItem(atPath: files.log, toPath: renamed)
        try file.write(numbers(6...60))
        #expect(try files.rotated() == ["c.log.20260101-000000"] && !FileManager.default.fileExists(atPath: files.log))
        try file.reopen()
        file.pauseEnd = nil
        try file.write(numbers(61...100))
        file.close()
        #expect(try files.rotated().count == 2)
        #expect(try files.output() == numbers(1...100))
    }

    /// streamd ends between the kubelet's renaming and its asking for the log to be reopened.
    @Test(arguments: ["20260101-000000", "20260101-000000_007"])
    func linesThatWereWrittenAfterARenamingAreCounted(_ name: String) throws {
        let files = try Files()
        var file = try files.open(UInt64.max)
        try file.write(numbers(1...5))
        try FileManager.default.moveItem(atPath: files.log, toPath: "\(files.log).\(name)")
        let noted = try Data(contentsOf: URL(fileURLWithPath: files.position))
        try file.write(numbers(6...10))
        file.close()
        try noted.write(to: URL(fileURLWithPath: files.position))
        var next = try files.open()
        #expect(next.taken.stdout == UInt64(numbers(1...10).utf8.count))
        try next.write(numbers(11...12))
        next.close()
        #expect(try files.output() == numbers(1...12))
    }

    /// The kubelet renames what it has seen full before, which may be the new file by then.
    @Test(arguments: ["20991231-000000", "20991231-000000_007"]) func thePresentFileIsNotTakenForAReservedName(_ name: String) throws {
        let files = try Files()
        var file = try files.open()
        try file.write(numbers(1...60))
        #expect(try files.text("c.log").isEmpty)
        try FileManager.default.moveItem(atPath: files.log, toPath: "\(files.log).\(name)")
        let parent = try LogParent(LogLocation(directory: files.directory, path: "logs/c.log"))
        file.removeOldest(parent, LogRotation(maxSize: 1000, maxFiles: 1000))
        try file.write("kept\n")
        file.close()
        #expect(try files.output() == numbers(1...60) + "kept\n")
    }

    @Test func aRotationThatCouldNotBeUndoneIsFinished() throws {
        let files = try Files()
        var file = try files.open()
        try file.write(numbers(1...5))
        try FileManager.default.moveItem(atPath: files.log, toPath: files.log + ".20260101-000000_000")
        try file.write(numbers(6...60))
        #expect(try files.text("c.log").isEmpty)
        try file.write(numbers(61...62))
        file.close()
        #expect(try files.output() == numbers(1...62))
    }

    @Test func aDirectoryThatVanishesHoldsUpNoLineAndIsReportedOnce() throws {
        let files = try Files()
        var file = try files.open()
        try FileManager.default.moveItem(atPath: files.directory + "/logs", toPath: files.directory + "/elsewhere")
        #expect(throws: SwiftletError.self) { try file.write(numbers(1...50)) }
        for _ in 0..<3 {
            file.pauseEnd = nil
            try file.write("more\n")
        }
        try FileManager.default.moveItem(atPath: files.directory + "/elsewhere", toPath: files.directory + "/logs")
        file.pauseEnd = nil
        try file.write("last\n")
        file.close()
        #expect(try files.rotated().count == 1)
        #expect(try files.output() == numbers(1...50) + "more\nmore\nmore\nlast\n")
    }

    /// Whatever the full disk refuses, a line or a new file, all is there when there is room.
    @Test func aFullDiskLosesNoLine() throws {
        let files = try Files(size: "256k")
        let ballast = files.directory + "/logs/ballast"
        var file = try files.open(8192)
        var (line, failures) = (0, 0)
        func fill() throws {
            let descriptor = open(ballast, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
            let page = [UInt8](repeating: 0, count: 4096)
            while Glibc.write(descriptor, page, page.count) == page.count {}
            close(descriptor)
        }
        while line < 2000 {
            if line.isMultiple(of: 100) { try fill() }
            line += 1
            do {
                try file.write("line \(line)\n")
            } catch {
                failures += 1
                unlink(ballast)
                try file.flush()
            }
        }
        file.close()
        #expect(failures > 5)
        #expect(try files.output() == numbers(1...2000))
        #expect(try files.rotated().count > 5)
    }

    @Test(
        arguments: [
            ([], "20260102-030405", "20260102-030405_000"), (["20260102-030404_999"], "20260102-030405", "20260102-030405_000"),
            (["20260102-030405"], "20260102-030405", "20260102-030405_000"),
            (["20260102-030405_000", "20260102-030405_001.gz"], "20260102-030405", "20260102-030405_002"),
            (["20260102-030405_999"], "20260102-030405", "20260102-030405_9990"),
            (["20260102-030405_9999"], "20260102-030405", "20260102-030405_99990"),
            // The clock was set back.
            (["20260102-040000"], "20260102-030405", "20260102-040000_000"),
            (["20260102-040000_099.gz"], "20260102-030405", "20260102-040000_100"),
        ] as [([String], String, String)])
    func aNameIsBehindAllOthersAsTheKubeletSortsThem(_ names: [String], _ time: String, _ expected: String) {
        let stamp = RotatedLogName.stamp(after: names.compactMap { RotatedLogName($0) }, at: time)
        #expect(stamp == expected)
        for name in names { #expect(Array(name.utf8).lexicographicallyPrecedes(Array(stamp.utf8))) }
    }

    @Test(
        arguments: [
            "", "gz", "1", "20260102-030405.tmp", "20260102-030405.gz.tmp", "20260102-030405_", "20260102-030405_1x", "20260102-0304056",
            "2026010a-030405", "20260102-030405.gz.gz",
        ])
    func whatIsNoFileOfTheLogsHasNoSuchName(_ suffix: String) {
        #expect(RotatedLogName(suffix) == nil)
    }

    @Test func aNameSaysTheLocalTime() {
        #expect(RotatedLogName(RotatedLogName.localTime()) != nil)
    }
}

extension Substring {
    fileprivate func droppingUnfinishedLine() -> String { String(self[...(lastIndex(of: "\n") ?? startIndex)]) }
}

extension [Int] {
    /// The numbers again and again.
    fileprivate func cycled(_ times: Int) -> [Int] { (0..<times).flatMap { _ in self } }
}
