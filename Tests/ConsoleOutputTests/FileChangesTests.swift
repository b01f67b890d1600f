import Foundation
import Glibc
import Support
import Synchronization
import Testing

@testable import ConsoleOutput

@Suite(.timeLimit(.minutes(1))) struct FileChangesTests {
    private final class Lengths: Sendable {
        private let path: String
        private let seen = Mutex(0)

        init(_ path: String) { self.path = path }

        func look() {
            var status = stat()
            guard stat(path, &status) == 0 else { return }
            seen.withLock { $0 = Int(status.st_size) }
        }

        var last: Int { seen.withLock { $0 } }
    }

    /// Masks of the watches that this process has on the file, from /proc (proc(5), fdinfo).
    private func masks(_ path: String) throws -> [UInt32] {
        var status = stat()
        try #require(stat(path, &status) == 0)
        let inode = "ino:" + String(status.st_ino, radix: 16)
        return try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fdinfo").flatMap { name in
            let text = (try? String(contentsOfFile: "/proc/self/fdinfo/\(name)", encoding: .utf8)) ?? ""
            return text.split(separator: "\n").compactMap { line -> UInt32? in
                let fields = line.split(separator: " ").map(String.init)
                guard fields.first == "inotify", fields.contains(inode) else { return nil }
                return fields.first { $0.hasPrefix("mask:") }.flatMap { UInt32($0.dropFirst(5), radix: 16) }
            }
        }
    }

    @Test func aWriterPaysForOneEventAndNotForEachByte() async throws {
        let ground = try ConsoleGround()
        let changes = try FileChanges.shared.get()
        let watch = try changes.watch(ground.console) {}
        #expect(try masks(ground.console) == [UInt32(IN_MODIFY) | UInt32(IN_ONESHOT)])
        ground.write("a")
        // Watched again after a moment.
        try await eventually("the file is watched again") { try masks(ground.console).count == 1 }
        changes.unwatch(watch)
        #expect(try masks(ground.console).isEmpty)
    }

    @Test func noChangeIsMissedByAnyOfThoseWhoWatchAFile() async throws {
        let ground = try ConsoleGround()
        let changes = try FileChanges.shared.get()
        let lengths = (0..<3).map { _ in Lengths(ground.console) }
        let watches = try lengths.map { lengths in try changes.watch(ground.console) { lengths.look() } }
        var written = 0
        for turn in 0..<60 {
            // Some come while the file is not watched.
            for _ in 0...(turn % 5) {
                ground.write("x")
                written += 1
                usleep(useconds_t(turn % 7 * 1000))
            }
            let expected = written
            try await eventually("all have seen \(expected) bytes", within: .seconds(5)) { lengths.allSatisfy { $0.last == expected } }
        }
        changes.unwatch(watches[0])
        ground.write("yz")
        try await eventually("the others are told still", within: .seconds(5)) {
            lengths[1].last == written + 2 && lengths[2].last == written + 2
        }
        for watch in watches.dropFirst() { changes.unwatch(watch) }
    }

    @Test func aFileThatIsGoneHoldsUpNoOther() async throws {
        let (gone, ground) = (try ConsoleGround(), try ConsoleGround())
        let changes = try FileChanges.shared.get()
        let (first, other) = (Lengths(gone.console), Lengths(ground.console))
        let watches = [try changes.watch(gone.console) { first.look() }, try changes.watch(ground.console) { other.look() }]
        gone.write("x")
        try await eventually("it is told of") { first.last == 1 }
        gone.write("y")
        unlink(gone.console)
        for count in 1...20 {
            ground.write("z")
            try await eventually("the other is told of", within: .seconds(5)) { other.last == count }
        }
        for watch in watches { changes.unwatch(watch) }
    }
}
