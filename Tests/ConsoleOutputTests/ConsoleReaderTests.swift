import Foundation
import Linux
import Runtime
import Support
import Testing

@testable import ConsoleOutput
@testable import Logs

@Suite(.timeLimit(.minutes(2))) struct ConsoleReaderTests {
    @Test func linesLoseTheirCarriageReturnsAndAPromptIsWrittenWithoutAnEnd() async throws {
        let ground = try ConsoleGround()
        let output = try await ground.output()
        ground.write("boot\r\none\rtwo\n\r\nlogin: ")
        try await eventually("the prompt is in the log") { try ground.lines() == ["F boot", "F one\rtwo", "F ", "P login: "] }
        ground.write("root\r")
        try await eventually("what was typed is") { try ground.lines().last == "P root" }
        ground.write("\n")
        try await eventually("the line has ended") { try ground.lines().last == "F " }
        #expect(try ground.text() == "boot\none\rtwo\n\nlogin: root\n")
        try await output.drained("c", hasEnded: true)
    }

    @Test func whatTheFileHoldsWhenTheMachineHasEndedIsWrittenToItsLastByte() async throws {
        let ground = try ConsoleGround()
        let output = try await ground.output()
        ground.write("one\r\nPower down")
        try await output.drained("c", hasEnded: true)
        #expect(try ground.lines() == ["F one", "F Power down"])
        output.close("c")
        // The next process is told of it again.
        try await ground.output().drained("c", hasEnded: true)
        #expect(try ground.lines() == ["F one", "F Power down"])
    }

    @Test func aPromptThatWasWrittenIsClosedByTheEnd() async throws {
        let ground = try ConsoleGround()
        let output = try await ground.output()
        ground.write("login: ")
        try await eventually("the prompt is in the log") { try ground.lines() == ["P login: "] }
        try await output.drained("c", hasEnded: true)
        #expect(try ground.lines() == ["P login: ", "F "])
    }

    @Test func aPromptOfTheProcessBeforeIsClosedByTheEndToo() async throws {
        let ground = try ConsoleGround()
        ground.write("one\r\nlogin: ")
        let before = try await ground.output()
        try await eventually("the prompt is in the log") { try ground.lines() == ["F one", "P login: "] }
        before.close("c")
        try await ground.output().drained("c", hasEnded: true)
        #expect(try ground.lines() == ["F one", "P login: ", "F "])
    }

    @Test func aMachineThatNeverWroteEndsAsWell() async throws {
        let ground = try ConsoleGround(withFile: false)
        try await ground.output().drained("c", hasEnded: true)
        #expect(try ground.lines() == [])
    }

    @Test func aFileThatComesLateIsReadFromItsBeginning() async throws {
        let ground = try ConsoleGround(withFile: false)
        let output = try await ground.output()
        try await Task.sleep(for: .milliseconds(120))
        try Data("first\r\n".utf8).write(to: URL(filePath: ground.console))
        try await eventually("it is read") { try ground.lines() == ["F first"] }
        try await output.drained("c", hasEnded: true)
    }

    @Test func aFloodIsWrittenWholeAndReleased() async throws {
        let ground = try ConsoleGround()
        let output = try await ground.output()
        let line = String(repeating: "x", count: 90)
        let text = (0..<100_000).map { "\($0) \(line)\r\n" }.joined()
        ground.write(text)
        try await output.drained("c", hasEnded: true)
        let isWhole = try ground.text() == text.replacing("\r\n", with: "\n")
        #expect(isWhole)
        #expect(try ground.taken() <= Int(ConsoleFile.kept + 2 * ConsoleFile.step))
    }

    @Test func longLinesAreCutInPiecesOf16KiB() async throws {
        let ground = try ConsoleGround()
        let output = try await ground.output()
        // The "\r" of the second is the first byte behind a piece, that of the third the last in one.
        for length in [16385, 16384, 16383] { ground.write(String(repeating: "y", count: length) + "\r\n") }
        try await output.drained("c", hasEnded: true)
        #expect(try ground.text() == [16385, 16384, 16383].map { String(repeating: "y", count: $0) + "\n" }.joined())
        #expect(try ground.lines().allSatisfy { $0.utf8.count <= 16384 + 2 })
    }

    @Test func bytesThatWereReleasedUnreadAreNamed() async throws {
        let ground = try ConsoleGround()
        ground.write([UInt8](repeating: 0x61, count: 65536) + Array("end\r\n".utf8))
        let descriptor = open(ground.console, O_RDWR | O_CLOEXEC)
        defer { close(descriptor) }
        try #require(try SparseFile.release(descriptor, from: 0, to: 65536) == 65536)
        let output = try await ground.output()
        try await output.drained("c", hasEnded: true)
        #expect(try ground.lines() == ["F:dropped swiftlet: 65536 bytes were lost: nobody has read them in time", "F end"])
        output.close("c")
        let next = try await ground.output()
        ground.write("more\r\n")
        try await next.drained("c", hasEnded: true)
        #expect(try ground.lines().count == 3)
    }

    @Test func aBudgetHoldsTheLogAndTheEndLiftsIt() async throws {
        let ground = try ConsoleGround()
        let output = try await ground.output(LogBudget(bytesPerSecond: 1000, operationsPerSecond: 0, excess: .wait))
        let text = (0..<40_000).map { "line \($0)\r\n" }.joined()
        ground.write(text)
        try await output.drained("c", liftingBudget: true, hasEnded: true)
        let isWhole = try ground.text() == text.replacing("\r\n", with: "\n")
        #expect(isWhole)
    }

    /// A process that is killed leaves what it had noted, and any part of what it was writing.
    @Test func noByteIsLostOrDoubledWhereverTheWriterIsKilled() async throws {
        let ground = try ConsoleGround()
        let (log, position) = (ground.directory + "/log", ground.directory + "/c.position")
        let texts = ["one\r\ntwo", "\r\nthree\r\n\r\nfour\r", "\nfive"]
        for killed in texts.indices {
            var isDone = false
            var cut: UInt64 = 0
            while !isDone {
                for path in [log, position] { try? FileManager.default.removeItem(atPath: path) }
                var file = try LogFile(location: LogLocation(directory: ground.directory, path: "log"), positionPath: position)
                file.readTerminal()
                for text in texts[..<killed] { try file.append(Array(text.utf8), from: .stdout) }
                let before = file.position
                try file.append(Array(texts[killed].utf8), from: .stdout)
                let after = file.position
                file.close()
                // As in the middle of that write.
                var noted = before
                noted.intended = LogPosition.Intended(logSize: after.logSize, stdout: after.stdout, dropped: 0)
                let descriptor = open(position, O_RDWR | O_CLOEXEC)
                noted.write(to: descriptor)
                close(descriptor)
                isDone = before.logSize + cut >= after.logSize
                truncate(log, off_t(min(before.logSize + cut, after.logSize)))
                cut += 7

                var next = try LogFile(location: LogLocation(directory: ground.directory, path: "log"), positionPath: position)
                next.readTerminal()
                #expect(next.taken.stdout == (isDone ? after.stdout : before.stdout))
                let all = Array(texts.joined().utf8)
                try next.append(Array(all[Int(next.taken.stdout)...]), from: .stdout)
                try next.finish(.stdout)
                next.close()
                #expect(try ground.text() == "one\ntwo\nthree\n\nfour\nfive\n", "killed at \(killed), \(cut)")
            }
        }
    }

    @Test func theNextProcessGoesOnAtTheExactByte() async throws {
        let ground = try ConsoleGround()
        var text = ""
        for round in 0..<8 {
            let output = try await ground.output()
            for number in 0..<400 {
                let line = "round \(round) line \(number)\r\n"
                text += line
                ground.write(line)
            }
            // In the midst of it, with what is under way.
            output.close("c")
        }
        try await ground.output().drained("c", hasEnded: true)
        let isWhole = try ground.text() == text.replacing("\r\n", with: "\n")
        #expect(isWhole)
    }
}
