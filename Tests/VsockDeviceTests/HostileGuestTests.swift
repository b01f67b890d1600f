import CLinux
import Glibc
import Testing

@testable import VsockDevice

/// Ways to break a ring. Each takes the device down until the driver starts anew, and nothing else.
enum RingAttack: String, CaseIterable, Sendable {
    case addressOutsideMemory, bufferIntoTheHole, addressOverflow, hugeLength, chainToItself, longLoop, nextBeyondRing
    case headBeyondRing, indexJump, headerTooShort, emptyChain, lengthBeyondChain, writableTransmit, indirectTransmit
    case readOnlyReceive, receiveOutsideMemory, receiveTooShort, receiveWithoutRoom, receiveIndexJump

    func run(_ driver: VhostUserDriver, _ victim: VsockHeader) {
        let receive = VhostUserDriver.receive
        let low = VhostUserDriver.low
        let high = VhostUserDriver.high
        switch self {
        case .addressOutsideMemory: transmit(driver, high.guestAddress + high.size, 44)
        case .bufferIntoTheHole: transmit(driver, low.guestAddress + low.size - 10, 44)
        case .addressOverflow: transmit(driver, UInt64.max - 10, 44)
        case .hugeLength: transmit(driver, high.guestAddress, UInt32.max)
        case .chainToItself: transmit(driver, high.guestAddress, 44, flags: 1, next: 100)
        case .longLoop:
            driver.writeDescriptor(VhostUserDriver.transmit, 101, high.guestAddress, 0, flags: 1, next: 100)
            transmit(driver, high.guestAddress, 0, flags: 1, next: 101)
        case .nextBeyondRing: transmit(driver, high.guestAddress, 44, flags: 1, next: 128)
        case .headBeyondRing: transmit(driver, high.guestAddress, 44, head: 0xffff)
        case .indexJump: jump(driver, VhostUserDriver.transmit)
        case .headerTooShort: transmit(driver, high.guestAddress, 43)
        case .emptyChain: transmit(driver, high.guestAddress, 0)
        case .lengthBeyondChain:
            var header = VsockHeader(
                sourceCID: GuestStack.cid, destinationCID: 2, sourcePort: victim.destinationPort, destinationPort: victim.sourcePort,
                operation: VsockOperation.data)
            header.length = 1
            header.store(to: driver.bytes + Int(high.fileOffset))
            transmit(driver, high.guestAddress, 44)
        case .writableTransmit: transmit(driver, high.guestAddress, 44, flags: 2)
        case .indirectTransmit: transmit(driver, high.guestAddress, 64, flags: 4)
        case .readOnlyReceive: rewriteReceive(driver) { driver.writeDescriptor(receive, $0, low.guestAddress + 0x10000, 5000, flags: 0) }
        case .receiveOutsideMemory: rewriteReceive(driver) { driver.writeDescriptor(receive, $0, 1 << 50, 5000, flags: 2) }
        case .receiveTooShort: rewriteReceive(driver) { driver.writeDescriptor(receive, $0, low.guestAddress + 0x10000, 43, flags: 2) }
        case .receiveWithoutRoom: rewriteReceive(driver) { driver.writeDescriptor(receive, $0, low.guestAddress + 0x10000, 44, flags: 2) }
        case .receiveIndexJump: jump(driver, receive)
        }
    }

    private func transmit(
        _ driver: VhostUserDriver, _ address: UInt64, _ length: UInt32, flags: UInt16 = 0, next: UInt16 = 0, head: UInt16 = 100
    ) {
        driver.writeDescriptor(VhostUserDriver.transmit, 100, address, length, flags: flags, next: next)
        driver.makeAvailable(VhostUserDriver.transmit, head: head)
        driver.kick(VhostUserDriver.transmit)
    }

    private func jump(_ driver: VhostUserDriver, _ queue: Int) {
        let ring = driver.availableRing(queue)
        clinux_vring_store_index(ring, clinux_vring_load_index(ring) &+ 20_000)
        driver.kick(queue)
    }

    private func rewriteReceive(_ driver: VhostUserDriver, _ write: (Int) -> Void) {
        for index in 0..<Int(VhostUserDriver.ringSize) { write(index) }
        driver.kick(VhostUserDriver.receive)
    }
}

@Suite struct HostileGuestTests {
    @Test(arguments: RingAttack.allCases)
    func aBrokenRingEndsOnlyItsOwnDriver(attack: RingAttack) async throws {
        try await withDriver { device, driver in
            let (client, request) = try driver.accept(device, port: 5)
            attack.run(driver, request)
            // Attacks on the receive queue show when there is something to receive.
            try? client.write("data for the guest")
            try client.waitForEnd()
            let refused = try HostClient(path: device.hostSocket)
            try refused.write("CONNECT 5\n")
            #expect(try refused.readLine().hasPrefix("ERROR the guest's vsock device is broken"))
            _ = try driver.stopQueues()
            try driver.startDriver()
            let (again, _) = try driver.accept(device, port: 5)
            try again.write("well again")
            #expect(try driver.next()?.payload == Array("well again".utf8))
        }
    }

    @Test func ringsOutsideTheMemoryBreakTheDevice() async throws {
        try await withDriver { device, driver in
            _ = try driver.stopQueues()
            var bad = VhostUserDriver.addresses(1)
            bad.used = VhostUserDriver.low.userAddress + VhostUserDriver.low.size - 100
            try driver.startQueues(addresses: [VhostUserDriver.addresses(0), bad])
            let refused = try HostClient(path: device.hostSocket)
            try refused.write("CONNECT 5\n")
            #expect(try refused.readLine().hasPrefix("ERROR the guest's vsock device is broken"))
        }
    }

    @Test func moreDataThanTheCreditAllowsResetsTheConnection() async throws {
        try await withDriver { device, driver in
            let (client, request) = try driver.accept(device, port: 5)
            let chunk = [UInt8](repeating: 1, count: VhostUserDriver.transmitBuffer)
            // Nobody reads: the socket's buffer and then the window fill.
            var answer: VsockHeader?
            for _ in 0..<64 where answer == nil {
                try driver.answer(request, VsockOperation.data, bytes: chunk)
                answer = try driver.next(milliseconds: 20).flatMap { $0.header.operation == VsockOperation.reset ? $0.header : nil }
            }
            #expect(answer?.destinationPort == 5)
            #expect(try client.readToEnd().count <= 2 << 20)
        }
    }

    @Test func aClaimToHaveConsumedWhatWasNeverSentResetsTheConnection() async throws {
        try await withDriver { device, driver in
            let (client, request) = try driver.accept(device, port: 5)
            var lie = VsockHeader(
                sourceCID: GuestStack.cid, destinationCID: 2, sourcePort: 5, destinationPort: request.sourcePort,
                operation: VsockOperation.creditUpdate)
            lie.forwardCount = 1000
            lie.bufferAllocation = 1 << 20
            try driver.transmit(lie)
            _ = try driver.expect(VsockOperation.reset)
            #expect(try client.readToEnd().isEmpty)
        }
    }

    @Test(arguments: [UInt16(0), 2, 4, 5, 6, 7, 8, 0xffff])
    func packetsForUnknownConnectionsAreReset(operation: UInt16) async throws {
        try await withDriver { device, driver in
            try driver.transmit(
                VsockHeader(sourceCID: GuestStack.cid, destinationCID: 2, sourcePort: 40, destinationPort: 41, operation: operation))
            let answer = try driver.expect(VsockOperation.reset)
            #expect(answer.sourcePort == 41 && answer.destinationPort == 40)
        }
    }

    @Test func resetsAreNeverAnsweredAndForeignAddressesAreDropped() async throws {
        try await withDriver { device, driver in
            var header = VsockHeader(
                sourceCID: GuestStack.cid, destinationCID: 2, sourcePort: 40, destinationPort: 41, operation: VsockOperation.reset)
            try driver.transmit(header)
            header.operation = VsockOperation.request
            header.sourceCID = GuestStack.cid + 1
            try driver.transmit(header)
            // The first answer is to the packet after those two.
            header.sourceCID = GuestStack.cid
            header.destinationCID = 3
            header.sourcePort = 99
            try driver.transmit(header)
            let answer = try driver.expect(VsockOperation.reset)
            #expect(answer.destinationPort == 99 && answer.sourceCID == 3)
        }
    }

    @Test func aTypeThatIsNoStreamIsResetInKind() async throws {
        try await withDriver { device, driver in
            var header = VsockHeader(
                sourceCID: GuestStack.cid, destinationCID: 2, sourcePort: 40, destinationPort: 41, operation: VsockOperation.request)
            header.type = 2
            try driver.transmit(header)
            #expect(try driver.expect(VsockOperation.reset).type == 2)
        }
    }

    @Test func aFloodOfConnectsStopsAtTheBoundAndTheHostStillGetsThrough() async throws {
        try await withDriver({ $0.guestConnections = 20 }) { device, driver in
            let listener = try ListeningSocket(path: device.hostSocket + "_50", mode: 0o600, backlog: 1000)
            var counts: [UInt16: Int] = [:]
            for port in 0..<200 {
                try driver.transmit(
                    VsockHeader(
                        sourceCID: GuestStack.cid, destinationCID: 2, sourcePort: UInt32(port), destinationPort: 50,
                        operation: VsockOperation.request))
                if let packet = try driver.next() { counts[packet.header.operation, default: 0] += 1 }
            }
            #expect(counts == [VsockOperation.response: 20, VsockOperation.reset: 180])
            _ = try driver.accept(device, port: 5)
            withExtendedLifetime(listener) {}
        }
    }

    @Test func aGuestThatTakesNoPacketsCannotMakeTheDeviceGrow() async throws {
        try await withDriver { device, driver in
            // Far more RSTs are owed than the receive queue has room for.
            for port in 0..<20_000 {
                try driver.transmit(
                    VsockHeader(
                        sourceCID: GuestStack.cid, destinationCID: 2, sourcePort: UInt32(port), destinationPort: 41,
                        operation: VsockOperation.data))
            }
            var resets = 0
            while let packet = try driver.next(milliseconds: 200) { resets += packet.header.operation == VsockOperation.reset ? 1 : 0 }
            #expect((1...ResetQueue.capacity + VhostUserDriver.chains).contains(resets))
            _ = try driver.accept(device, port: 5)
        }
    }

    @Test func aSecondRequestForALiveConnectionResetsIt() async throws {
        try await withDriver { device, driver in
            let (client, request) = try driver.accept(device, port: 5)
            try driver.answer(request, VsockOperation.request)
            _ = try driver.expect(VsockOperation.reset)
            #expect(try client.readToEnd().isEmpty)
        }
    }

    @Test func aDriverThatRestartsForEverLeavesNothingMapped() async throws {
        try await withDriver { device, driver in
            for _ in 0..<50 {
                _ = try driver.stopQueues()
                try driver.startDriver()
            }
            // The driver's own mapping, and the device's of the two regions.
            #expect(try mappings(of: driver.memoryName) == 3)
            _ = try driver.accept(device, port: 5)
        }
    }

    private func mappings(of name: String) throws -> Int {
        guard let file = fopen("/proc/self/maps", "r") else { throw HostClient.Failure(description: "no maps") }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 4096)
        var count = 0
        while fgets(&line, Int32(line.count), file) != nil { count += strstr(line, name) != nil ? 1 : 0 }
        return count
    }
}
