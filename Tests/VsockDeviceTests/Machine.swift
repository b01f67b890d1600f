import Errors
import Synchronization

@testable import VsockDevice

/// A device whose machine runs a driver but no guest stack: the test plays the guest packet by packet.
func withDriver(
    _ adjust: @escaping @Sendable (inout VsockDeviceOptions.Limits) -> Void = { _ in },
    _ body: @escaping @Sendable (DeviceUnderTest, VhostUserDriver) throws -> Void
) async throws {
    try await onThread {
        let device = try DeviceUnderTest(adjust)
        do {
            let driver = try VhostUserDriver(path: device.vhostSocket)
            try driver.realize()
            try driver.startDriver()
            try body(device, driver)
        } catch {
            _ = try? device.stop()
            throw error
        }
        try device.stop()
    }
}

/// A device whose guest answers by itself (see `GuestStack` for its ports), on a thread of its own.
func withGuest(
    _ adjust: @escaping @Sendable (inout VsockDeviceOptions.Limits) -> Void = { _ in },
    _ body: @escaping @Sendable (DeviceUnderTest) throws -> Void
) async throws {
    let finished = Signal()
    let device = try await onThread { try DeviceUnderTest(adjust) }
    async let guest: Void = onThread {
        let driver = try VhostUserDriver(path: device.vhostSocket)
        try driver.realize()
        try driver.startDriver()
        let stack = GuestStack(driver)
        try stack.serve { _ in finished.isSet }
    }
    let result: Result<Void, any Error>
    do { result = .success(try await onThread { try body(device) }) } catch { result = .failure(error) }
    finished.set()
    let guestResult: Result<Void, any Error>
    do { guestResult = .success(try await guest) } catch { guestResult = .failure(error) }
    _ = try await onThread { try device.join() }
    try result.get()
    try guestResult.get()
}

final class Signal: Sendable {
    private let value = Atomic(false)
    var isSet: Bool { value.load(ordering: .acquiring) }
    func set() { value.store(true, ordering: .releasing) }
}

/// The next packet's header and bytes.
extension VhostUserDriver {
    func next(milliseconds: Int32 = 60_000) throws -> (header: VsockHeader, payload: [UInt8])? {
        try receivePacket(milliseconds: milliseconds) { ($0, Array($1)) }
    }

    func expect(_ operation: UInt16) throws -> VsockHeader {
        guard let packet = try next() else { throw Failure(description: "no packet") }
        guard packet.header.operation == operation else { throw Failure(description: "got \(packet.header), not operation \(operation)") }
        return packet.header
    }

    /// The answer to a packet.
    func answer(_ to: VsockHeader, _ operation: UInt16, buffer: UInt32 = 256 << 10, flags: UInt32 = 0, bytes: [UInt8] = []) throws {
        var header = VsockHeader(
            sourceCID: GuestStack.cid, destinationCID: 2, sourcePort: to.destinationPort, destinationPort: to.sourcePort,
            operation: operation)
        header.flags = flags
        header.bufferAllocation = buffer
        header.length = UInt32(bytes.count)
        try bytes.withUnsafeBytes { try transmit(header, $0) }
    }

    /// A host client connected to `port`, and the REQUEST that names the connection.
    func accept(_ device: DeviceUnderTest, port: UInt32, buffer: UInt32 = 256 << 10) throws -> (client: HostClient, request: VsockHeader) {
        let client = try HostClient(path: device.hostSocket)
        try client.write("CONNECT \(port)\n")
        let request = try expect(VsockOperation.request)
        try answer(request, VsockOperation.response, buffer: buffer)
        guard try client.readLine() == "OK \(port)" else { throw Failure(description: "no OK") }
        return (client, request)
    }
}
