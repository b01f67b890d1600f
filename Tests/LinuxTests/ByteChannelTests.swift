import Concurrency
import Errors
import Glibc
import Support
import Synchronization
import Testing

@testable import Linux

/// Counts the pieces in which bytes come.
private final class Receiver: ByteChannelOwner {
    private let state = Mutex((pieces: [[UInt8]](), ended: false))

    var pieces: [[UInt8]] { state.withLock { $0.pieces } }
    var hasEnded: Bool { state.withLock { $0.ended } }

    func channel(_ channel: ByteChannel, received bytes: UnsafeRawBufferPointer) {
        let bytes = Array(bytes)
        state.withLock { $0.pieces.append(bytes) }
    }
    func channelReceivedEnd(_ channel: ByteChannel) { state.withLock { $0.ended = true } }
    func channelDrained(_ channel: ByteChannel) {}
    func channelClosed(_ channel: ByteChannel, error: SwiftletError?) {}
}

@Suite(.timeLimit(.minutes(1))) struct ByteChannelTests {
    private static func pair() throws -> (Int32, Int32) {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0 else { throw SwiftletError.system("socketpair") }
        return (ends[0], ends[1])
    }

    @Test func whatIsWrittenBitByBitComesTogetherAndWhole() async throws {
        let (peer, own) = try Self.pair()
        let (channel, receiver) = (ByteChannel(descriptor: own, loop: try EventLoop(name: "bytes")), Receiver())
        channel.gather(from: 1)
        try channel.open(owner: receiver)
        await OwnThread.answer {
            for number in 0..<500 {
                let byte = [UInt8(truncatingIfNeeded: number)]
                _ = byte.withUnsafeBytes { write(peer, $0.baseAddress, 1) }
                usleep(20)
            }
            shutdown(peer, Int32(SHUT_WR))
        }
        try await eventually("all has come") { receiver.hasEnded }
        #expect(receiver.pieces.joined().elementsEqual((0..<500).map { UInt8(truncatingIfNeeded: $0) }))
        #expect(receiver.pieces.count < 250, "\(receiver.pieces.count) pieces")
        channel.close()
        close(peer)
    }

    /// A read that takes as much as it may does not wait.
    @Test func aReadThatWasFullIsFollowedAtOnce() async throws {
        let (peer, own) = try Self.pair()
        let (channel, receiver) = (ByteChannel(descriptor: own, loop: try EventLoop(name: "bytes")), Receiver())
        channel.gather(from: 1)
        channel.limitReads(to: 1)
        let bytes = Array(UInt8(0)..<200)
        #expect(bytes.withUnsafeBytes { write(peer, $0.baseAddress, $0.count) } == 200)
        try channel.open(owner: receiver)
        try await eventually("all has come") { receiver.pieces.count == 200 }
        #expect(receiver.pieces.joined().elementsEqual(bytes))
        channel.close()
        close(peer)
    }

    /// In whatever pieces the kernel takes it: header, payload and borrowed bytes stay in order.
    @Test func whatHasToWaitIsWrittenInItsOrder() async throws {
        let (peer, own) = try Self.pair()
        let (channel, receiver) = (ByteChannel(descriptor: own, loop: try EventLoop(name: "bytes")), Receiver())
        try channel.open(owner: receiver)
        var expected: [UInt8] = []
        for number in 0..<30 {
            let payload = (0..<40_000 + number).map { UInt8(truncatingIfNeeded: $0 &* (number + 3)) }
            switch number % 3 {
            case 0: channel.write([UInt8(number), 1, 2], payload)
            case 1: payload.withUnsafeBytes { _ = channel.write($0) }
            default: channel.write(payload)
            }
            expected += (number % 3 == 0 ? [UInt8(number), 1, 2] : []) + payload
        }
        #expect(channel.queued > 0)
        channel.finishWriting()
        let received = await OwnThread.answer {
            var (all, part) = ([UInt8](), [UInt8](repeating: 0, count: 10_007))
            while true {
                let count = read(peer, &part, part.count)
                guard count > 0 else { return all }
                all += part[..<count]
            }
        }
        let isSame = received == expected
        #expect(isSame)
        channel.close()
        close(peer)
    }
}
