import Foundation
import Glibc
import Testing

@testable import Logs

@Suite(.timeLimit(.minutes(1))) struct LogPositionTests {
    /// What the file holds, as words of 64 bits in the machine's order.
    private func read(_ words: [UInt64]) throws -> LogPosition? {
        let path = NSTemporaryDirectory() + "swiftlet-position-" + UUID().uuidString
        defer { unlink(path) }
        try words.withUnsafeBytes { try Data($0).write(to: URL(fileURLWithPath: path)) }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        defer { close(descriptor) }
        return LogPosition(readingFrom: descriptor)
    }

    @Test func positionsOfEveryVersionAreRead() throws {
        // 0.1.0 wrote the four words alone.
        for words: [UInt64] in [[1, 2, 3, 4], [1, 2, 3, 4, 2]] {
            let position = try #require(try read(words))
            #expect((position.stdout, position.stderr, position.logSize, position.inode) == (1, 2, 3, 4))
        }
        #expect(try read([1, 2, 3, 4, LogPosition.version + 1]) == nil, "a newer version may count otherwise")
        #expect(try read([1, 2, 3]) == nil)
    }

    @Test func aPositionIsReadAsItWasWritten() throws {
        let path = NSTemporaryDirectory() + "swiftlet-position-" + UUID().uuidString
        defer { unlink(path) }
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(descriptor) }
        var position = LogPosition()
        (position.stdout, position.stderr, position.logSize, position.inode) = (7, 8, 9, 10)
        position.write(to: descriptor)
        #expect(LogPosition(readingFrom: descriptor) == position)
    }
}
