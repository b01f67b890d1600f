import CLinux
import Glibc
import Testing

@testable import VsockDevice

@Suite struct StreamTests {
    @Test func bytesComeBackThroughTheGuest() async throws {
        try await withGuest { device in
            let client = try HostClient(device, port: GuestStack.echoPort)
            try client.write("hello\n")
            #expect(try client.readLine() == "hello")
        }
    }

    @Test func theGreetingRequestCarriesPortsAndCredit() async throws {
        try await withDriver { device, driver in
            let (client, request) = try driver.accept(device, port: 1024)
            #expect(request.sourceCID == 2 && request.destinationCID == GuestStack.cid)
            #expect(request.destinationPort == 1024 && request.type == 1 && request.length == 0)
            #expect(request.bufferAllocation == 256 << 10)
            client.close()
        }
    }

    @Test func bytesSentWithTheGreetingReachTheGuest() async throws {
        try await withGuest { device in
            let client = try HostClient(path: device.hostSocket)
            try client.write("CONNECT \(GuestStack.echoPort)\nearly\n")
            #expect(try client.readLine() == "OK \(GuestStack.echoPort)")
            #expect(try client.readLine() == "early")
        }
    }

    @Test func aGreetingInPiecesIsUnderstood() async throws {
        try await withGuest { device in
            let client = try HostClient(path: device.hostSocket)
            for piece in ["CONN", "ECT ", "\(GuestStack.echoPort)", "\n"] { try client.write(piece) }
            #expect(try client.readLine() == "OK \(GuestStack.echoPort)")
        }
    }

    @Test(arguments: ["GET / HTTP/1.1\r\n", "CONNECT 4294967295\n", String(repeating: "A", count: 100)])
    func aWrongGreetingIsRefusedWithAReason(line: String) async throws {
        try await withDriver { device, driver in
            let client = try HostClient(path: device.hostSocket)
            try client.write(line)
            #expect(try client.readLine().hasPrefix("ERROR expected CONNECT <port>"))
        }
    }

    @Test func allBytesArriveFromASourceThatIsFasterThanItsReader() async throws {
        try await withGuest { device in
            let client = try HostClient(device, port: GuestStack.sourcePort)
            let bytes = try client.readToEnd()
            #expect(bytes == GuestStack.sourceStream)
        }
    }

    @Test func halfCloseFromTheHostEndsTheGuestsReadingOnly() async throws {
        try await withGuest { device in
            let client = try HostClient(device, port: GuestStack.echoPort)
            let sent = (0..<600_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
            let writer = Handover(client)
            let written = Signal()
            startThread {
                try? writer.value.write(sent)
                writer.value.endWriting()
                written.set()
            }
            #expect(try client.readToEnd() == sent)
            try waitFor { written.isSet }
        }
    }

    @Test func halfCloseFromTheGuestComesAfterItsLastByte() async throws {
        try await withDriver { device, driver in
            let (client, request) = try driver.accept(device, port: 5)
            try driver.answer(request, VsockOperation.data, bytes: Array("bye".utf8))
            try driver.answer(request, VsockOperation.shutdown, flags: VsockShutdown.send.rawValue)
            #expect(try client.readToEnd() == Array("bye".utf8))
            try client.write("still there")
            let packet = try driver.next()
            #expect(packet?.payload == Array("still there".utf8))
            client.close()
            let end = try driver.expect(VsockOperation.shutdown)
            #expect(end.flags == VsockShutdown.both.rawValue)
        }
    }

    @Test func aGuestThatClosesIsAnsweredWithResetAndTheHostReadsToTheEnd() async throws {
        try await withDriver { device, driver in
            let (client, request) = try driver.accept(device, port: 5)
            try driver.answer(request, VsockOperation.data, bytes: Array("last".utf8))
            try driver.answer(request, VsockOperation.shutdown, flags: VsockShutdown.both.rawValue)
            let answer = try driver.expect(VsockOperation.reset)
            #expect(answer.sourcePort == request.sourcePort && answer.destinationPort == 5)
            #expect(try client.readToEnd() == Array("last".utf8))
        }
    }

    @Test func resetByTheGuestEndsTheHostsStream() async throws {
        try await withDriver { device, driver in
            let (client, request) = try driver.accept(device, port: 5)
            try driver.answer(request, VsockOperation.reset)
            #expect(try client.readToEnd().isEmpty)
        }
    }

    @Test func aClientThatLeavesShutsTheGuestsSocketAndIsForgottenAfterTheReset() async throws {
        try await withDriver({ $0.hostConnections = 1 }) { device, driver in
            let (client, _) = try driver.accept(device, port: 5)
            try client.write("x")
            client.close()
            #expect(try driver.next()?.payload == [UInt8(ascii: "x")])
            let end = try driver.expect(VsockOperation.shutdown)
            #expect(end.flags == VsockShutdown.both.rawValue)
            let refused = try HostClient(path: device.hostSocket)
            #expect(try refused.readLine().hasPrefix("ERROR too many connections"))
            try driver.answer(end, VsockOperation.reset)
            try waitFor {
                let next = try HostClient(path: device.hostSocket)
                try next.write("CONNECT 6\n")
                return try driver.next(milliseconds: 100)?.header.operation == VsockOperation.request
            }
        }
    }

    @Test func aGuestThatNeverConfirmsTheEndIsResetAfterAWhile() async throws {
        try await withDriver({ $0.closeTime = 50_000_000 }) { device, driver in
            let (client, _) = try driver.accept(device, port: 5)
            client.close()
            _ = try driver.expect(VsockOperation.shutdown)
            _ = try driver.expect(VsockOperation.reset)
        }
    }

    @Test func theGuestReachesAListenerOnTheHost() async throws {
        try await withDriver { device, driver in
            let listener = try ListeningSocket(path: device.hostSocket + "_50", mode: 0o600, backlog: 1)
            var header = VsockHeader(
                sourceCID: GuestStack.cid, destinationCID: 2, sourcePort: 900, destinationPort: 50, operation: VsockOperation.request)
            header.bufferAllocation = 256 << 10
            try driver.transmit(header)
            let response = try driver.expect(VsockOperation.response)
            #expect(response.sourcePort == 50 && response.destinationPort == 900)
            guard let accepted = listener.accept() else { throw HostClient.Failure(description: "nobody came") }
            let host = HostClient(descriptor: accepted)
            try driver.answer(response, VsockOperation.data, bytes: Array("up\n".utf8))
            #expect(try host.readLine() == "up")
            try host.write("down")
            #expect(try driver.next()?.payload == Array("down".utf8))
        }
    }

    @Test func aHostPortWithoutListenerIsReset() async throws {
        try await withDriver { device, driver in
            try driver.transmit(
                VsockHeader(
                    sourceCID: GuestStack.cid, destinationCID: 2, sourcePort: 900, destinationPort: 51, operation: VsockOperation.request))
            let answer = try driver.expect(VsockOperation.reset)
            #expect(answer.sourcePort == 51 && answer.destinationPort == 900)
        }
    }

    @Test func twoHundredStreamsRunAtOnce() async throws {
        try await withGuest { device in
            let finished = (0..<200).map { _ in Signal() }
            for (index, signal) in finished.enumerated() {
                startThread {
                    defer { signal.set() }
                    do {
                        let client = try HostClient(device, port: GuestStack.echoPort)
                        let sent = (0..<20_000).map { UInt8(truncatingIfNeeded: $0 &* (index + 3)) }
                        try client.write(sent)
                        client.endWriting()
                        let received = try client.readToEnd()
                        if received != sent { Issue.record("stream \(index) is damaged") }
                    } catch {
                        Issue.record("stream \(index): \(error)")
                    }
                }
            }
            try waitFor { finished.allSatisfy(\.isSet) }
        }
    }
}

/// Gives an object to exactly one other thread.
struct Handover<T>: @unchecked Sendable {
    // Safe: a socket may be written by one thread while another reads it, and that is all the tests do with it.
    let value: T
    init(_ value: T) { self.value = value }
}

/// Repeats `condition` until it holds, for a minute at most.
@discardableResult
func waitFor(_ condition: () throws -> Bool) throws -> Bool {
    let limit = monotonicNanoseconds() + 60_000_000_000
    while try !condition() {
        guard monotonicNanoseconds() < limit else { throw HostClient.Failure(description: "condition never held") }
        sched_yield()
    }
    return true
}
