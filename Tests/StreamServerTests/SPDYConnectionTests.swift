import NIOCore
import StreamFrames
import Support
import Testing

@Suite struct SPDYConnectionTests {
    /// Two SYN_STREAM frames of one connection as Python's zlib and struct make them: `streamtype` is `error`, then `stdout`.
    static let golden: [UInt8] = [
        0x80, 0x03, 0x00, 0x01, 0x00, 0x00, 0x00, 0x28, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x78, 0xBB, 0xE3, 0xC6,
        0xA7, 0xC2, 0x02, 0xA6, 0x23, 0x46, 0x70, 0x3A, 0x2B, 0x29, 0x4A, 0x4D, 0xCC, 0x85, 0x16, 0x25, 0xAC, 0xA9, 0xA0, 0x80, 0x06, 0x00,
        0x00, 0x00, 0xFF, 0xFF, 0x80, 0x03, 0x00, 0x01, 0x00, 0x00, 0x00, 0x19, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0xC2, 0x2A, 0x05, 0x4C, 0xCC, 0x29, 0xF9, 0xA5, 0x25, 0x00, 0x00, 0x00, 0x00, 0xFF, 0xFF,
    ]

    /// What a connection makes of bytes, in pieces of that size.
    private func events(_ connection: inout SPDYConnection, _ bytes: [UInt8], piece: Int = .max) throws -> [SPDYConnection.Event] {
        var events: [SPDYConnection.Event] = []
        for start in stride(from: 0, to: bytes.count, by: piece == .max ? max(bytes.count, 1) : piece) {
            connection.receive(ByteBuffer(bytes: bytes[start..<min(bytes.count, piece == .max ? bytes.count : start + piece)]))
            while let event = try connection.next() { events.append(event) }
        }
        return events
    }

    private func output(_ connection: inout SPDYConnection) -> [UInt8] { connection.takeOutput().map { Array($0.readableBytesView) } ?? [] }

    /// A connection with stream 1, and a client that speaks to it.
    private func opened(maximumStreams: Int = 10) throws -> (connection: SPDYConnection, client: SPDYClient) {
        var connection = SPDYConnection(.server, maximumStreams: maximumStreams)
        let client = SPDYClient()
        _ = try events(&connection, client.open(1, ["streamtype": "stdin"]))
        connection.accept(1)
        _ = output(&connection)
        return (connection, client)
    }

    @Test(arguments: [1, 2, 7, 8, 9, 30, 1000]) func framesOfAnotherImplementationAreReadInWhateverPieces(_ piece: Int) throws {
        var connection = SPDYConnection(.server, maximumStreams: 10)
        #expect(
            try events(&connection, Self.golden, piece: piece) == [
                .opened(id: 1, headers: ["streamtype": "error"]), .opened(id: 3, headers: ["streamtype": "stdout"]),
            ])
    }

    @Test func theDictionaryIsTheDrafts() {
        var (a, b): (UInt32, UInt32) = (1, 0)
        for byte in SPDYDictionary.bytes {
            a = (a + UInt32(byte)) % 65521
            b = (b + a) % 65521
        }
        #expect(SPDYDictionary.bytes.count == 1423)
        // Adler-32, by which zlib tells dictionaries apart.
        #expect(b << 16 | a == 0xE3C6_A7C2)
    }

    @Test func answersAreTheDraftsBytes() throws {
        var connection = SPDYConnection(.server, maximumStreams: 10)
        _ = try events(&connection, Self.golden)
        connection.accept(1)
        let reply = output(&connection)
        #expect(reply.prefix(4) == [0x80, 3, 0, 2] && reply[8..<12] == [0, 0, 0, 1])
        // The client's zlib reads it: no header.
        #expect(try HeaderInflater().inflate(ByteBuffer(bytes: reply[12...])) == [0, 0, 0, 0])
        connection.reset(3)
        #expect(output(&connection) == [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 5])
        var bytes = ByteBuffer(string: "hi")
        let frame = try #require(connection.send(&bytes, end: true, on: 1))
        #expect(Array(frame.header.readableBytesView) == [0, 0, 0, 1, 1, 0, 0, 2] && frame.payload == ByteBuffer(string: "hi"))
        #expect(try events(&connection, [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9]) == [])
        #expect(output(&connection) == [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9])
        connection.goAway(status: 0)
        #expect(output(&connection) == [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 0])
    }

    @Test func dataComesAsItArrivesAndItsEndOnce() throws {
        var (connection, client) = try opened()
        let bytes = client.data(1, Array("hello".utf8), end: true)
        #expect(
            try events(&connection, bytes, piece: 10) == [
                .data(id: 1, bytes: ByteBuffer(string: "he")), .data(id: 1, bytes: ByteBuffer(string: "llo")), .ended(id: 1),
            ])
        #expect(try events(&connection, client.data(1, [1])) == [.reset(id: 1, reason: "data behind the end of the stream")])
        #expect(output(&connection).suffix(5) == [1, 0, 0, 0, 9])
        // Behind a reset, what was on its way is dropped.
        #expect(try events(&connection, client.data(1, [1])) == [] && output(&connection).isEmpty)
    }

    // MARK: Windows

    /// moby/spdystream sends and expects no WINDOW_UPDATE.
    @Test func aPeerWithoutWindowsIsNeitherHeldNorTold() throws {
        var (connection, client) = try opened()
        var bytes = ByteBuffer(repeating: 1, count: 10 << 20)
        var sent = 0
        while let frame = connection.send(&bytes, end: false, on: 1) { sent += frame.payload.readableBytes }
        #expect(sent == 10 << 20)
        for _ in 0..<10 { _ = try events(&connection, client.data(1, [UInt8](repeating: 2, count: 32 << 10))) }
        #expect(output(&connection).isEmpty)
        connection.consumed(320 << 10, of: 1)
        #expect(output(&connection).isEmpty)
    }

    @Test func aPeerThatKeepsToItsWindowIsToldOfWhatWasConsumed() throws {
        var (connection, client) = try opened()
        _ = try events(&connection, client.data(1, [UInt8](repeating: 2, count: 64 << 10)))
        connection.consumed(64 << 10, of: 1)
        let update: [UInt8] = [0x80, 3, 0, 9, 0, 0, 0, 8]
        #expect(output(&connection) == update + [0, 0, 0, 0, 0, 1, 0, 0] + update + [0, 0, 0, 1, 0, 1, 0, 0])
        _ = try events(&connection, client.data(1, [UInt8](repeating: 2, count: 64 << 10)))
        connection.consumed(1, of: 1)
        #expect(output(&connection).isEmpty)
    }

    @Test func aPeerWithWindowsIsSentNoMoreThanTheyHold() throws {
        var (connection, client) = try opened()
        #expect(try events(&connection, client.settings([(7, 1000)])) == [])
        var bytes = ByteBuffer(repeating: 1, count: 100_000)
        #expect(connection.send(&bytes, end: true, on: 1)?.payload.readableBytes == 1000)
        #expect(connection.send(&bytes, end: true, on: 1) == nil)
        #expect(try events(&connection, client.windowUpdate(1, 70_000)) == [.windowOpened(id: 1)])
        // The connection's window is 64 KiB.
        #expect(connection.send(&bytes, end: true, on: 1)?.payload.readableBytes == 64536)
        #expect(connection.send(&bytes, end: true, on: 1) == nil)
        #expect(try events(&connection, client.windowUpdate(0, 5000)) == [.windowOpened(id: nil)])
        #expect(connection.send(&bytes, end: true, on: 1)?.payload.readableBytes == 5000)
        #expect(try events(&connection, client.settings([(7, 1 << 20)])) == [.windowOpened(id: nil)])
        _ = try events(&connection, client.windowUpdate(0, 1 << 20))
        let last = try #require(connection.send(&bytes, end: true, on: 1))
        #expect(last.payload.readableBytes == 100_000 - 70536 && Array(last.header.readableBytesView)[4] == 1)
    }

    /// So that a stream that nobody reads holds up no other.
    @Test func aPeerThatCountsHasTheConnectionsWindowBackAtOnce() throws {
        var (connection, client) = try opened()
        _ = try events(&connection, client.open(3, ["streamtype": "data"]))
        _ = try events(&connection, client.settings([(7, 1 << 20)]))
        // It is told once that this end counts as well.
        #expect(output(&connection) == [0x80, 3, 0, 4, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 7, 0, 1, 0, 0])
        _ = try events(&connection, client.settings([(7, 1 << 20)]))
        #expect(output(&connection).isEmpty)
        _ = try events(&connection, client.data(1, [UInt8](repeating: 0, count: 64 << 10)))
        #expect(output(&connection) == [0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0, 0])
        _ = try events(&connection, client.data(3, [UInt8](repeating: 0, count: 64 << 10)))
        connection.consumed(64 << 10, of: 1)
        let update: [UInt8] = [0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0]
        #expect(output(&connection) == update + [0, 0, 1, 0, 0] + update + [1, 0, 1, 0, 0])
    }

    @Test func windowsThatOverflowEndTheStreamOrTheConnection() throws {
        var (connection, client) = try opened()
        _ = try events(&connection, client.windowUpdate(1, 1))
        let overrun = client.data(1, [UInt8](repeating: 0, count: 40 << 10)) + client.data(1, [UInt8](repeating: 0, count: 24 << 10))
        _ = try events(&connection, overrun)
        #expect(try events(&connection, client.data(1, [0])) == [.reset(id: 1, reason: "more data than the stream's window holds")])

        (connection, client) = try opened()
        _ = try events(&connection, client.windowUpdate(1, 1))
        let frame = client.data(1, [UInt8](repeating: 0, count: (64 << 10) + 1))
        #expect(throws: SPDYConnectionError("more data than the connection's window holds")) { try events(&connection, frame) }

        (connection, client) = try opened()
        #expect(
            try events(&connection, client.windowUpdate(1, 0x7FFF_FFFF)) == [.reset(id: 1, reason: "window of more than 2^31 - 1 bytes")])
        #expect(output(&connection).suffix(4) == [0, 0, 0, 7])
        #expect(throws: SPDYConnectionError.self) { try events(&connection, client.windowUpdate(0, 0x7FFF_FFFF)) }
        (connection, client) = try opened()
        #expect(throws: SPDYConnectionError.self) { try events(&connection, client.settings([(7, 0x8000_0000)])) }
    }

    // MARK: Faults

    @Test func streamsOpenedTwiceBackwardsOrByTheWrongSideAreFaults() throws {
        var (connection, client) = try opened()
        #expect(try events(&connection, client.open(1, [:])) == [.reset(id: 1, reason: "the stream was opened twice")])
        #expect(output(&connection).suffix(8) == [0, 0, 0, 1, 0, 0, 0, 1])
        #expect(try events(&connection, client.open(5, ["a": "b"])) == [.opened(id: 5, headers: ["a": "b"])])
        #expect(throws: SPDYConnectionError("stream 3 comes after stream 5")) { try events(&connection, client.open(3, [:])) }
        (connection, client) = try opened()
        #expect(throws: SPDYConnectionError("stream 2 has a server's number")) { try events(&connection, client.open(2, [:])) }
        (connection, client) = try opened()
        #expect(throws: SPDYConnectionError("stream 0 has a server's number")) { try events(&connection, client.open(0, [:])) }
    }

    @Test func moreStreamsThanAllowedAreRefusedAndTheConnectionGoesOn() throws {
        var (connection, client) = try opened(maximumStreams: 2)
        #expect(try events(&connection, client.open(3, ["a": "b"])).count == 1)
        for id in stride(from: UInt32(5), to: 4001, by: 2) {
            #expect(try events(&connection, client.open(id, ["a": "b"])) == [])
            #expect(output(&connection).suffix(4) == [0, 0, 0, 3])
        }
        connection.reset(3)
        #expect(try events(&connection, client.open(4001, ["c": "d"])) == [.opened(id: 4001, headers: ["c": "d"])])
    }

    @Test func dataOfUnknownStreamsIsAnsweredAndDropped() throws {
        var (connection, client) = try opened()
        for id: UInt32 in [0, 2, 77] {
            #expect(try events(&connection, client.data(id, [1, 2, 3])) == [])
            #expect(output(&connection).suffix(4) == [0, 0, 0, 2])
        }
    }

    @Test(
        arguments: [
            ("SYN_STREAM", [0x80, 3, 0, 1, 0, 0, 0, 9] + [UInt8](repeating: 0, count: 9)),
            ("RST_STREAM", [0x80, 3, 0, 3, 0, 0, 0, 4, 0, 0, 0, 1]),
            ("RST_STREAM", [0x80, 3, 0, 3, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0]),
            ("SETTINGS", [0x80, 3, 0, 4, 0, 0, 0, 4, 0xFF, 0xFF, 0xFF, 0xFF]), ("SETTINGS", [0x80, 3, 0, 4, 0, 0, 0, 0]),
            ("PING", [0x80, 3, 0, 6, 0, 0, 0, 5, 0, 0, 0, 1, 0]), ("GOAWAY", [0x80, 3, 0, 7, 0, 0, 0, 4, 0, 0, 0, 1]),
            ("HEADERS", [0x80, 3, 0, 8, 0, 0, 0, 1, 0]), ("WINDOW_UPDATE", [0x80, 3, 0, 9, 0, 0, 0, 4, 0, 0, 0, 1]),
            ("too large", [0x80, 3, 0, 1, 0, 0xFF, 0xFF, 0xFF]), ("SPDY/2", [0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]),
            ("no zlib", [0x80, 3, 0, 1, 0, 0, 0, 14, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0xDE, 0xAD, 0xBE, 0xEF]),
        ] as [(String, [UInt8])]) func lengthsThatNoFrameHasEndTheConnection(_ what: String, _ bytes: [UInt8]) throws
    {
        var (connection, _) = try opened()
        #expect(throws: SPDYConnectionError.self, "\(what)") { try events(&connection, bytes) }
    }

    @Test func unknownFramesArePassedOverWhateverTheirLength() throws {
        var (connection, client) = try opened()
        let unknown: [UInt8] = [0x80, 3, 0, 99, 0, 0x10, 0, 0] + [UInt8](repeating: 0xAA, count: 0x10_0000)
        #expect(
            try events(&connection, unknown + client.data(1, [7]), piece: 10_000) == [.data(id: 1, bytes: ByteBuffer(bytes: [7]))])
    }

    @Test func headersThatGrowBeyondTheirBoundEndTheConnection() throws {
        var (connection, client) = try opened()
        let bomb = client.open(3, ["a": String(repeating: "a", count: 1 << 20)])
        #expect(bomb.count < 16 << 10)
        #expect(throws: SPDYConnectionError.self) { try events(&connection, bomb) }
    }

    @Test func malformedHeadersEndTheirStreamAndTheNextIsRead() throws {
        var (connection, client) = try opened()
        var id: UInt32 = 3
        for block: [UInt8] in [
            [0, 0, 0, 1], [0, 0, 0, 0, 1], [0xFF, 0xFF, 0xFF, 0xFF], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 1, 0, 0, 0, 1, 0x41, 0, 0, 0, 0], [0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0x41],
            [0, 0, 0, 2, 0, 0, 0, 1, 0x61, 0, 0, 0, 0, 0, 0, 0, 1, 0x61, 0, 0, 0, 0],
        ] {
            #expect(try events(&connection, client.open(id, block: block)) == [], "\(block)")
            #expect(output(&connection).suffix(4) == [0, 0, 0, 1])
            id += 2
        }
        #expect(try events(&connection, client.open(id, ["x": "y"])) == [.opened(id: id, headers: ["x": "y"])])
    }
}
