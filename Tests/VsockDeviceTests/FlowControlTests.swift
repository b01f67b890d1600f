import CLinux
import Glibc
import Testing

@testable import VsockDevice

@Suite struct FlowControlTests {
    @Test func theGuestIsNeverSentMoreThanItsCredit() async throws {
        try await withDriver { device, driver in
            let (client, request) = try driver.accept(device, port: 5, buffer: 10_000)
            try client.write([UInt8](repeating: 7, count: 50_000))
            var received = 0
            while received < 10_000, let packet = try driver.next() { received += packet.payload.count }
            #expect(try driver.next(milliseconds: 50) == nil)
            #expect(received == 10_000)
            var update = VsockHeader(
                sourceCID: GuestStack.cid, destinationCID: 2, sourcePort: 5, destinationPort: request.sourcePort,
                operation: VsockOperation.creditUpdate)
            update.bufferAllocation = 10_000
            update.forwardCount = 4_000
            try driver.transmit(update)
            while received < 14_000, let packet = try driver.next() { received += packet.payload.count }
            #expect(try driver.next(milliseconds: 50) == nil)
            #expect(received == 14_000)
        }
    }

    @Test func creditIsGivenBackAfterAtMost64KiB() async throws {
        try await withDriver { device, driver in
            let (client, request) = try driver.accept(device, port: 5)
            try driver.answer(request, VsockOperation.data, bytes: [UInt8](repeating: 1, count: 40_000))
            _ = try client.read(exactly: 40_000)
            try driver.answer(request, VsockOperation.data, bytes: [UInt8](repeating: 1, count: 25_536))
            _ = try client.read(exactly: 25_536)
            let update = try driver.expect(VsockOperation.creditUpdate)
            #expect(update.forwardCount == 65_536 && update.bufferAllocation == 256 << 10)
        }
    }

    @Test func aCreditRequestIsAnswered() async throws {
        try await withDriver { device, driver in
            let (client, request) = try driver.accept(device, port: 5)
            try driver.answer(request, VsockOperation.data, bytes: [1, 2, 3])
            _ = try client.read(exactly: 3)
            try driver.answer(request, VsockOperation.creditRequest)
            #expect(try driver.expect(VsockOperation.creditUpdate).forwardCount == 3)
        }
    }

    @Test func aHostProgramThatDoesNotReadHoldsUpNobodyElse() async throws {
        try await withGuest { device in
            let stuck = try (0..<10).map { _ in try HostClient(device, port: GuestStack.sourcePort) }
            let client = try HostClient(device, port: GuestStack.sourcePort)
            #expect(try client.readToEnd() == GuestStack.sourceStream)
            // When it does read, nothing is missing.
            for client in stuck.prefix(2) { #expect(try client.readToEnd() == GuestStack.sourceStream) }
        }
    }

    @Test func aGuestProgramThatDoesNotReadHoldsUpItsWriterOnly() async throws {
        try await withGuest { device in
            let stuck = try HostClient(device, port: GuestStack.stuckPort)
            let chunk = [UInt8](repeating: 0, count: 65536)
            var taken = 0
            let client = try HostClient(device, port: GuestStack.echoPort)
            for round in 0..<200 {
                taken += max(0, clinux_send(stuck.descriptor, chunk, chunk.count))
                try client.write("\(round)\n")
                #expect(try client.readLine() == "\(round)")
            }
            // The guest's window, and what the socket's own buffer holds.
            #expect(taken < 2 << 20)
        }
    }

    @Test func aBytesQueueKeepsOrderAcrossItsEndsAndRefusesTooMuch() {
        let queue = SocketBacklog(limit: 10_000)
        func append(_ bytes: [UInt8], from offset: Int = 0) -> Bool {
            var bytes = bytes
            return bytes.withUnsafeMutableBytes { raw in
                let middle = raw.count / 3
                let parts = [
                    iovec(iov_base: raw.baseAddress, iov_len: middle),
                    iovec(iov_base: raw.baseAddress.map { $0 + middle }, iov_len: raw.count - middle),
                ]
                return parts.withUnsafeBufferPointer { queue.append($0, from: offset) }
            }
        }
        var pair: [Int32] = [0, 0]
        #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
        defer { pair.forEach { close($0) } }
        var expected: [UInt8] = []
        var received: [UInt8] = []
        for round in 0..<20 {
            let bytes = (0..<3000).map { UInt8(truncatingIfNeeded: $0 + round) }
            #expect(append(bytes, from: round))
            expected += bytes[round...]
            while !queue.isEmpty { #expect(queue.send(to: pair[0]) > 0) }
            var buffer = [UInt8](repeating: 0, count: 4000)
            let count = recv(pair[1], &buffer, buffer.count, 0)
            received += buffer.prefix(max(0, count))
        }
        #expect(received == expected)
        #expect(append([UInt8](repeating: 1, count: 9_999)))
        #expect(!append([1, 2]))
        #expect(queue.count == 9_999)
    }

    @Test func creditCountsSurviveTheirOverflow() {
        var credit = Credit(window: 256 << 10)
        var forwarded: UInt32 = 0
        #expect(announce(&credit, 1 << 20, 0))
        for _ in 0..<10_000 {
            let sent = credit.available
            credit.sentToGuest(sent)
            forwarded &+= UInt32(sent)
            #expect(announce(&credit, 1 << 20, forwarded))
        }
        #expect(credit.available == 1 << 20)
        // An announcement overtaken by a later one changes nothing; one from the future is a lie.
        #expect(announce(&credit, 1 << 20, forwarded &- 100))
        #expect(credit.available == 1 << 20)
        #expect(!announce(&credit, 1 << 20, forwarded &+ 1))
    }

    @Test func aGuestsAllocationCannotPromiseMoreThanCountsCanHold() {
        var credit = Credit(window: 1)
        #expect(announce(&credit, .max, 0))
        #expect(credit.available == 1 << 30)
    }

    /// The macro cannot call what changes a variable.
    private func announce(_ credit: inout Credit, _ allocation: UInt32, _ forwarded: UInt32) -> Bool {
        credit.guestAnnounced(allocation: allocation, forwarded: forwarded)
    }
}
