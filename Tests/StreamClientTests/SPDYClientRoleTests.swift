import NIOCore
import StreamFrames
import Testing

/// The client's end of a SPDY connection, without I/O.
@Suite struct SPDYClientRoleTests {
    private static let update: [UInt8] = [0x80, 3, 0, 9, 0, 0, 0, 8]

    private func events(_ connection: inout SPDYConnection, _ bytes: [UInt8]) throws -> [SPDYConnection.Event] {
        connection.receive(ByteBuffer(bytes: bytes))
        var events: [SPDYConnection.Event] = []
        while let event = try connection.next() { events.append(event) }
        return events
    }

    private func output(_ connection: inout SPDYConnection) -> [UInt8] { connection.takeOutput().map { Array($0.readableBytesView) } ?? [] }

    /// A connection with streams 1 and 3.
    private func opened() -> SPDYConnection {
        var connection = SPDYConnection(.client, maximumStreams: 10)
        for id: UInt32 in [1, 3] {
            let opened = connection.open([("streamType", "data")])
            #expect(opened == id)
        }
        _ = connection.takeOutput()
        return connection
    }

    @Test func itBeginsWithWhatTellsWhetherTheServerCounts() {
        var connection = SPDYConnection(.client, maximumStreams: 10)
        let settings: [UInt8] = [0x80, 3, 0, 4, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 7, 0, 4, 0, 0]
        #expect(output(&connection) == settings + Self.update + [0, 0, 0, 0, 0, 15, 0, 0] + [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1])
    }

    /// Read by the server's end.
    @Test func itsStreamsAreOpenedInOrderAndTakenWithoutReply() throws {
        var (client, server) = (SPDYConnection(.client, maximumStreams: 2), SPDYConnection(.server, maximumStreams: 10))
        let first = client.open([("streamType", "error"), ("port", "80")])
        let second = client.open([("streamType", "data"), ("port", "80")])
        let third = client.open([])
        #expect(first == 1 && second == 3 && third == nil)
        var end = ByteBuffer()
        let frame = try #require(client.send(&end, end: true, on: 1))
        let bytes = output(&client) + Array(frame.header.readableBytesView)
        #expect(
            try events(&server, bytes).filter { if case .windowOpened = $0 { false } else { true } } == [
                .opened(id: 1, headers: ["streamtype": "error", "port": "80"]),
                .opened(id: 3, headers: ["streamtype": "data", "port": "80"]),
                .ended(id: 1),
            ])
        server.accept(1)
        server.accept(3)
        #expect(try events(&client, output(&server)) == [])
    }

    // MARK: Windows

    @Test func aServerWithoutWindowsIsSentEverythingOnceItHasAnsweredThePing() throws {
        var connection = opened()
        var bytes = ByteBuffer(repeating: 1, count: 1 << 20)
        #expect(connection.send(&bytes, end: false, on: 1)?.payload.readableBytes == 64 << 10)
        #expect(connection.send(&bytes, end: false, on: 1) == nil)
        #expect(try events(&connection, [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]) == [.windowOpened(id: nil)])
        var sent = 64 << 10
        while let frame = connection.send(&bytes, end: false, on: 1) { sent += frame.payload.readableBytes }
        #expect(sent == 1 << 20)
    }

    /// What it sends beyond its windows is taken, and it is told of none.
    @Test func aServerWithoutWindowsMaySendWhatItLikes() throws {
        var connection = opened()
        let header: [UInt8] = [0, 0, 0, 1, 0, 0x10, 0, 0]
        for _ in 0..<3 { _ = try events(&connection, header + [UInt8](repeating: 0, count: 1 << 20)) }
        connection.consumed(3 << 20, of: 1)
        #expect(output(&connection).isEmpty)
    }

    @Test func aServerThatCountsIsSentNoMoreThanItsWindows() throws {
        var connection = opened()
        // SETTINGS, then the ping's answer.
        let settings: [UInt8] = [0x80, 3, 0, 4, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 7, 0, 1, 0, 0]
        _ = try events(&connection, settings + [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1])
        var bytes = ByteBuffer(repeating: 1, count: 1 << 20)
        #expect(connection.send(&bytes, end: false, on: 1)?.payload.readableBytes == 64 << 10)
        #expect(connection.send(&bytes, end: false, on: 1) == nil)
        // The connection's window is at its end, too.
        var other = ByteBuffer(repeating: 1, count: 10)
        #expect(connection.send(&other, end: false, on: 3) == nil)
        #expect(try events(&connection, Self.update + [0, 0, 0, 0, 0, 0, 0, 5]) == [.windowOpened(id: nil)])
        #expect(connection.send(&bytes, end: false, on: 1) == nil)
        #expect(connection.send(&other, end: false, on: 3)?.payload.readableBytes == 5)
    }

    @Test func aStreamThatNobodyReadsHoldsUpNoOtherOfAServerThatCounts() throws {
        var (client, server) = (SPDYConnection(.client, maximumStreams: 10), SPDYConnection(.server, maximumStreams: 10))
        _ = (client.open([("a", "b")]), client.open([("a", "b")]))
        for _ in 0..<2 {
            _ = try events(&server, output(&client))
            _ = try events(&client, output(&server))
        }
        func send(_ count: Int, on id: UInt32) throws -> Int {
            var (bytes, sent) = (ByteBuffer(repeating: 7, count: count), 0)
            while true {
                while let frame = server.send(&bytes, end: false, on: id) {
                    sent += frame.payload.readableBytes
                    _ = try events(&client, Array(frame.header.readableBytesView) + Array(frame.payload.readableBytesView))
                }
                let answer = output(&client)
                if answer.isEmpty { return sent }
                _ = try events(&server, answer)
            }
        }
        #expect(try send(1 << 20, on: 1) == 256 << 10)
        for _ in 0..<20 {
            #expect(try send(256 << 10, on: 3) == 256 << 10)
            client.consumed(256 << 10, of: 3)
            _ = try events(&server, output(&client))
        }
        #expect(try send(1, on: 1) == 0)
        client.consumed(256 << 10, of: 1)
        _ = try events(&server, output(&client))
        #expect(try send(1 << 20, on: 1) == 256 << 10)
    }

    // MARK: What a server may do, and may not

    @Test func itsPingsAreAnswered() throws {
        var connection = opened()
        #expect(try events(&connection, [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2]) == [])
        #expect(output(&connection) == [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2])
        #expect(try events(&connection, [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9]) == [])
        #expect(output(&connection).isEmpty && connection.takeAnswers() == 12)
    }

    @Test func aRefusedStreamIsToldAndTheOtherGoesOn() throws {
        var connection = opened()
        #expect(
            try events(&connection, [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 3]) == [
                .reset(id: 1, reason: "the server has reset the stream (refused stream)")
            ])
        #expect(try events(&connection, [0, 0, 0, 3, 1, 0, 0, 1, 7]) == [.data(id: 3, bytes: ByteBuffer(bytes: [7])), .ended(id: 3)])
    }

    @Test func whoLeavesTakesNoMoreStreams() throws {
        var connection = opened()
        #expect(
            try events(&connection, [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0]) == [
                .reset(id: 3, reason: "the server is leaving"), .goneAway(lastID: 1, status: 0),
            ])
        let none = connection.open([])
        #expect(none == nil)
        #expect(try events(&connection, [0, 0, 0, 1, 0, 0, 0, 1, 7]) == [.data(id: 1, bytes: ByteBuffer(bytes: [7]))])
    }

    @Test func aSecondReplyAndOneToNoStreamAreFaultsOfTheirStream() throws {
        var connection = opened()
        let deflater = HeaderDeflater()
        func reply(_ id: UInt8) -> [UInt8] {
            let block = deflater.deflate([0, 0, 0, 0])
            return [0x80, 3, 0, 2, 0, 0, 0, UInt8(4 + block.count), 0, 0, 0, id] + block
        }
        #expect(try events(&connection, reply(1)) == [])
        #expect(try events(&connection, reply(1)) == [.reset(id: 1, reason: "a second reply")])
        #expect(output(&connection).suffix(8) == [0, 0, 0, 1, 0, 0, 0, 8])
        // It was reset; this one was on its way.
        #expect(try events(&connection, reply(1)) == [] && output(&connection).isEmpty)
        for id: UInt8 in [2, 5] {
            #expect(try events(&connection, reply(id)) == [])
            #expect(output(&connection).suffix(8) == [0, 0, 0, id, 0, 0, 0, 1])
        }
        #expect(try events(&connection, [0, 0, 0, 3, 1, 0, 0, 0]) == [.ended(id: 3)])
    }

    @Test func streamsThatTheServerOpensAreRefused() throws {
        var (connection, deflater) = (opened(), HeaderDeflater())
        func push(_ id: UInt8) -> [UInt8] {
            let block = deflater.deflate([0, 0, 0, 0])
            return [0x80, 3, 0, 1, 0, 0, 0, UInt8(10 + block.count), 0, 0, 0, id, 0, 0, 0, 0, 0, 0] + block
        }
        #expect(try events(&connection, push(2)) == [])
        #expect(output(&connection) == [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 3])
        #expect(throws: SPDYConnectionError("stream 5 has a client's number")) { try events(&connection, push(5)) }
        (connection, deflater) = (opened(), HeaderDeflater())
        #expect(throws: SPDYConnectionError("stream 0 has a client's number")) { try events(&connection, push(0)) }
    }

    @Test func dataOfStreamsThatWereNotOpenedIsAnsweredAndDropped() throws {
        var connection = opened()
        for id: UInt8 in [0, 2, 5] {
            #expect(try events(&connection, [0, 0, 0, id, 0, 0, 0, 1, 9]) == [])
            #expect(output(&connection).suffix(8) == [0, 0, 0, id, 0, 0, 0, 2])
        }
    }
}
