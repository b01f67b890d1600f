import Errors
import NIOCore
import NIOPosix
import StreamFrames
import Testing

@Suite(.timeLimit(.minutes(1))) struct ByteStreamTests {
    /// A connection that is found gone by whoever writes to it.
    private final class GoneCarrier: StreamCarrier {
        weak var table: StreamTable?
        var isWritable: Bool { true }

        func send(_ bytes: inout ByteBuffer, end: Bool, on id: UInt32) {
            bytes.moveReaderIndex(to: bytes.writerIndex)
            table?.failAll(SwiftletError(.aborted, "gone"))
        }

        func consumed(_ count: Int, of id: UInt32) {}
        func sendReset(of id: UInt32) {}
        func resumeReading() {}
    }

    /// The writer was told twice once, which ended the process with all its sessions.
    @Test func aWriteThatFindsTheConnectionGoneFailsOnce() async throws {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let (parts, stream) = try await eventLoop.submit {
            let carrier = GoneCarrier()
            let table = StreamTable(carrier: carrier, eventLoop: eventLoop)
            carrier.table = table
            return (NIOLoopBound((carrier, table), eventLoop: eventLoop), table.open(1))
        }.get()
        let error = await #expect(throws: SwiftletError.self) { try await stream.write(ByteBuffer(string: "x")) }
        #expect(error?.message == "gone")
        await #expect(throws: SwiftletError.self) { try await stream.write(ByteBuffer(string: "y")) }
        withExtendedLifetime(parts) {}
    }
}
