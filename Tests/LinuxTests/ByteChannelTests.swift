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

    /// A connection of TCP's on this machine: two ends.
    private static func connection() throws -> (Int32, Int32) {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = INADDR_LOOPBACK.bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        let server = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { address -> Int32 in
                guard bind(listener, address, length) == 0, listen(listener, 1) == 0, getsockname(listener, address, &length) == 0,
                    connect(client, address, length) == 0
                else { return -1 }
                return accept(listener, nil, nil)
            }
        }
        guard server >= 0 else { throw SwiftletError.system("a connection") }
        return (client, server)
    }

    private static func lowWaterMark(_ channel: ByteChannel) -> Int32? {
        channel.withDescriptor { descriptor in
            var (mark, length) = (Int32(0), socklen_t(MemoryLayout<Int32>.size))
            return getsockopt(descriptor, SOL_SOCKET, SO_RCVLOWAT, &mark, &length) == 0 ? mark : -1
        } ?? nil
    }

    /// And what is too little for a good read comes too, while the connection stays open.
    @Test func aTransferByTCPComesInLargePiecesAndWhole() async throws {
        let (peer, own) = try Self.connection()
        let (channel, receiver) = (ByteChannel(descriptor: own, loop: try EventLoop(name: "bytes", readSize: 128 << 10)), Receiver())
        channel.gather(from: 4 << 10)
        try channel.open(owner: receiver)
        let piece = (0..<8192).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        await OwnThread.answer {
            for _ in 0..<1000 { _ = piece.withUnsafeBytes { write(peer, $0.baseAddress, $0.count) } }
        }
        try await eventually("all has come") { receiver.pieces.joined().count == 1000 * 8192 }
        let isSame = receiver.pieces.joined().elementsEqual((0..<1000).lazy.flatMap { _ in piece })
        #expect(isSame)
        #expect(receiver.pieces.count < 500, "\(receiver.pieces.count) pieces")
        try await eventually("the next bytes do not wait") { Self.lowWaterMark(channel) == 1 }
        channel.close()
        close(peer)
    }

    @Test func anAnswerByTCPIsNotHeldBack() async throws {
        let (peer, own) = try Self.connection()
        let (channel, receiver) = (ByteChannel(descriptor: own, loop: try EventLoop(name: "bytes")), Receiver())
        channel.gather(from: 4 << 10)
        try channel.open(owner: receiver)
        let answer = [UInt8](repeating: 7, count: 12_000)
        for number in 1...100 {
            channel.write([1])
            let isAnswered = await OwnThread.answer {
                var question: UInt8 = 0
                return read(peer, &question, 1) == 1 && answer.withUnsafeBytes { write(peer, $0.baseAddress, $0.count) } == answer.count
            }
            try #require(isAnswered)
            while receiver.pieces.count < number { await Task.yield() }
            #expect(Self.lowWaterMark(channel) == 1)
        }
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
