import Runtime
import Testing

@testable import LogCollection

@Suite struct WaitingLinesTests {
    /// Room for four lines of one container, 16 of all: a line of this test takes 42 bytes, and 128 beside them.
    private let empty = WaitingLines(capacity: 16 * 170)
    private let a = container("a")
    private let b = container("b")

    @Test func whatFindsNoRoomIsDroppedAndSaidAtItsPlace() {
        var waiting = empty
        for number in 1...6 {
            let isTaken = waiting.append(lines(["\(number)"]), of: a)
            #expect(isTaken == (number <= 4))
        }
        #expect(waiting.droppedLines == 2)
        let first = waiting.take(atMost: 2 * 170)
        #expect(first?.summary == ["1", "2"])
        // The gap takes room as well.
        let hasRoom = waiting.append(lines(["7"]), of: a)
        #expect(hasRoom)
        let rest = waiting.take(atMost: .max)
        #expect(rest?.summary == ["3", "4", "a -2", "7"])
        let none = waiting.take(atMost: .max)
        #expect(none?.summary == nil && waiting.bytes == 0)
    }

    @Test func oneContainerLeavesRoomForOthers() {
        var waiting = empty
        for number in 1...100 { _ = waiting.append(lines(["\(number % 10)"]), of: a) }
        let isTaken = waiting.append(lines(["x"]), of: b)
        #expect(isTaken)
        // Nobody waits for the next line of the first to learn what is missing.
        let taken = waiting.take(atMost: .max)
        #expect(taken?.summary == ["1", "2", "3", "4", "x", "a -96"])
    }

    @Test func allOfThemTakeNoMoreThanTheCapacity() {
        var waiting = empty
        for index in 0..<100 { _ = waiting.append(lines(["x"]), of: container("c\(index)")) }
        #expect(waiting.bytes == 16 * 170 && waiting.droppedLines == 84)
        let taken = waiting.take(atMost: .max)
        #expect(taken?.summary.count == 100)
    }

    @Test func whatWasDroppedOfContainersThatAreGoneIsSaidOnce() {
        var waiting = empty
        for number in 1...5 { _ = waiting.append(lines(["\(number)"]), of: a) }
        for index in 0..<12 { _ = waiting.append(lines(["x"]), of: container("c\(index)")) }
        _ = waiting.append(lines(["no"]), of: b)
        waiting.end(a)
        waiting.end(b)
        let first = waiting.take(atMost: 4 * 170)
        #expect(first?.summary == ["1", "2", "3", "4", "a -1"])
        let rest = waiting.take(atMost: .max)
        #expect(rest?.summary.suffix(1) == ["others -1"])
        _ = waiting.append(lines(["y"]), of: a)
        let last = waiting.take(atMost: .max)
        #expect(last?.summary == ["y"])
    }

    /// A record of what was refused would be refused again, without an end.
    @Test func whatIsRefusedIsSaidWithTheNextLines() throws {
        var waiting = empty
        _ = waiting.append(lines(["1", "2"]), of: a)
        let first = waiting.take(atMost: .max)
        waiting.refuse(try #require(first))
        #expect(waiting.droppedLines == 2)
        let none = waiting.take(atMost: .max)
        #expect(none?.summary == nil)
        _ = waiting.append(lines(["3"]), of: a)
        let next = waiting.take(atMost: .max)
        #expect(next?.summary == ["a -2", "3"])
        waiting.refuse(try #require(next))
        #expect(waiting.droppedLines == 3)
        waiting.end(a)
        _ = waiting.append(lines(["4"]), of: b)
        let last = waiting.take(atMost: .max)
        #expect(last?.summary == ["4", "others -3"])
    }

    /// The capacity counts bytes of lines, not the buffers that logs write from.
    @Test func aPieceKeepsNoRoomOfTheBufferThatItCameIn() {
        var buffer: [UInt8] = []
        buffer.reserveCapacity(4 << 20)
        buffer += lines(["x"])
        #expect(buffer.pieces(of: 1000).allSatisfy { $0 == buffer && $0.capacity < $0.count + 64 })
        for _ in 0..<9 { buffer += lines(["x"]) }
        let cut = buffer.pieces(of: 100)
        #expect(cut.count == 5 && cut.allSatisfy { $0.count == 84 && $0.capacity < $0.count + 64 })
    }

    @Test func aLargeWriteIsCutBetweenLines() {
        let long = lines(["1234567890", "2", "3"])
        #expect(long.pieces(of: 1000) == [long])
        #expect(long.pieces(of: 95).map(\.lineCount) == [2, 1])
        #expect(long.pieces(of: 1).map(\.lineCount) == [1, 1, 1])
        #expect(long.pieces(of: 60).flatMap { $0 } == long)
        #expect([UInt8]().pieces(of: 1).isEmpty)
    }
}
