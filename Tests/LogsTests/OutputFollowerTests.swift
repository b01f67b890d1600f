import Foundation
import Runtime
import Testing

@testable import Logs

@Suite(.timeLimit(.minutes(1))) struct OutputFollowerTests {
    private func follower(of followers: OutputFollowers) -> OutputFollower {
        let follower = OutputFollower { followers.remove($0) }
        followers.add(follower)
        return follower
    }

    private func text(_ bytes: [UInt8]?) -> String? { bytes.map { String(decoding: $0, as: UTF8.self) } }

    @Test func allSeeWhatComesFromNowOnUntilItsEnd() async {
        let followers = OutputFollowers()
        followers.send(Array("before".utf8), from: .stdout, after: OutputOffsets())
        let (first, second) = (follower(of: followers), follower(of: followers))
        followers.send(Array("out".utf8), from: .stdout, after: OutputOffsets(stdout: 6))
        followers.send(Array("err".utf8), from: .stderr, after: OutputOffsets(stdout: 9))
        second.leave()
        followers.send(Array("more".utf8), from: .stdout, after: OutputOffsets(stdout: 9, stderr: 3))
        for source in StandardStream.allCases { followers.finish(source) }
        #expect(text(await first.read(.stdout)) == "outmore", "tiny pieces are kept together")
        #expect(text(await first.read(.stderr)) == "err")
        for source in StandardStream.allCases { #expect(await first.read(source) == nil) }
        #expect(text(await second.read(.stdout)) == "out")
        #expect(await second.read(.stdout) == nil)
        #expect(await follower(of: followers).read(.stdout) == nil, "who comes later sees the end")
    }

    /// A log whose disk is full takes nothing, or a part, and the guest sends it again.
    @Test func whatTheLogDidNotTakeIsShownOnce() async throws {
        struct Full: Error {}
        actor FullLog: OutputSink {
            var offsets = OutputOffsets()
            var room = 4
            func received() -> OutputOffsets { offsets }
            func take(_ bytes: [UInt8], from source: StandardStream) throws -> OutputOffsets {
                let taken = min(room, bytes.count)
                (room, offsets.stdout) = (room - taken, offsets.stdout + UInt64(taken))
                guard taken == bytes.count else { throw Full() }
                return offsets
            }
            func flush() -> OutputOffsets { offsets }
            func writePart(of source: StandardStream) -> OutputOffsets { offsets }
            func lose(_ count: UInt64, of source: StandardStream) -> OutputOffsets { offsets }
            func finish(_ source: StandardStream) -> OutputOffsets { offsets }
            func makeRoom() { room = 100 }
        }
        let (log, followers) = (FullLog(), OutputFollowers())
        let follower = follower(of: followers)
        let sink = FollowedSink(log: log, followers: followers)
        await #expect(throws: Full.self) { _ = try await sink.take(Array("abcdef".utf8), from: .stdout) }
        await #expect(throws: Full.self) { _ = try await sink.take(Array("efghi".utf8), from: .stdout) }
        await log.makeRoom()
        _ = try await sink.take(Array("efghijk".utf8), from: .stdout)
        _ = try await sink.finish(.stdout)
        var seen = ""
        while let part = text(await follower.read(.stdout)) { seen += part }
        #expect(seen == "abcdefghijk")
    }

    /// Nobody waits for it, and what it keeps is bounded.
    @Test func whoReadsTooSlowlyLosesBytesAndIsTold() async {
        let followers = OutputFollowers()
        let follower = follower(of: followers)
        let part = [UInt8](repeating: 0x61, count: 64 << 10)
        func send(_ bytes: [UInt8], after count: Int) {
            followers.send(bytes, from: .stdout, after: OutputOffsets(stdout: UInt64(count)))
        }
        for index in 0..<10 { send(part, after: index * part.count) }
        var seen = 0
        for _ in 0..<4 { seen += await follower.read(.stdout)?.count ?? 0 }
        #expect(seen == OutputFollower.limit)
        let notice = text(await follower.read(.stdout)) ?? ""
        #expect(notice.contains("\(10 * part.count - seen) bytes of output were lost"))
        send(Array("again".utf8), after: 10 * part.count)
        #expect(text(await follower.read(.stdout)) == "again")
    }

    @Test func aReaderThatIsCancelledWaitsNoLonger() async {
        let follower = follower(of: OutputFollowers())
        let reading = Task { await follower.read(.stderr) }
        try? await Task.sleep(for: .milliseconds(20))
        reading.cancel()
        #expect(await reading.value == nil)
    }
}
