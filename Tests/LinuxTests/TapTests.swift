import Concurrency
import Errors
import Glibc
import Testing

@testable import Linux

@Suite struct TapTests {
    @Test func aTapOutlivesItsMakerAndIsDeletedOnce() async throws {
        try await withNamespace {
            try Tap.create("tap0", uid: 64055, gid: 64055)
            let link = try #require(try RouteNetlink().link(named: "tap0"))
            #expect(link.kind == "tun")
            #expect(!link.isUp)
            #expect(throws: SwiftletError.self) { try Tap.create("tap0", uid: 0) }
            #expect(try Tap.delete("tap0"))
            #expect(try !Tap.delete("tap0"))
        }
    }

    @Test func deleteRefusesWhatIsNoTap() async throws {
        try await withNamespace {
            try RouteNetlink().createVeth("a0", peer: "a1")
            #expect { try Tap.delete("a0") } throws: { ($0 as? SwiftletError)?.code == .failedPrecondition }
            #expect(throws: SwiftletError.self) { try Tap.attach("none0") }
        }
    }

    /// The shape of a pod: a bridge side, a veth whose inner end holds the address, and a tap joined to it. The test
    /// plays the guest on the tap.
    @Test func joinedDevicesCarryFramesBothWaysAndTheNamespaceItselfStaysSilent() async throws {
        let outer = try TestNamespace()
        let pod = try TestNamespace()
        let guest = try await NetworkNamespace.run(in: pod.path) {
            try Tap.create("tap0", uid: 0)
            return try Tap.attach("tap0")
        }
        defer { close(guest) }
        let bridgeMAC = try await NetworkNamespace.run(in: outer.path) {
            let netlink = try RouteNetlink()
            let descriptor = try NetworkNamespace.open(pod.path)
            defer { close(descriptor) }
            try netlink.createVeth("v0", peer: "eth0", peerNamespace: descriptor)
            let link = try #require(try netlink.link(named: "v0"))
            try netlink.change(link: link.index, LinkChange(up: true))
            try netlink.add(address: try #require(IPPrefix("10.66.0.1/24")), link: link.index)
            return try #require(link.mac).bytes
        }
        let mac = try await NetworkNamespace.run(in: pod.path) {
            let netlink = try RouteNetlink()
            let veth = try #require(try netlink.link(named: "eth0"))
            let tap = try #require(try netlink.link(named: "tap0"))
            for index in [veth.index, tap.index] { try netlink.change(link: index, LinkChange(up: true)) }
            for address in ["10.66.0.2/24", "10.66.0.3/24"] {
                try netlink.add(address: try #require(IPPrefix(address)), link: veth.index)
            }
            try netlink.join(veth.index, tap.index)
            // Joining twice leaves one filter: every frame still arrives once.
            try netlink.join(veth.index, tap.index)
            return try #require(veth.mac).bytes
        }

        let answers = try await OwnThread.run {
            try exchange(EthernetFrame.arpRequest(from: mac, sender: [10, 66, 0, 2], target: [10, 66, 0, 1]), on: guest) {
                $0[12...13] == [0x08, 0x06] && $0[20...21] == [0, 2]
            }
        }
        let reply = try #require(answers.last)
        #expect(Array(reply[22..<28]) == bridgeMAC)
        #expect(Array(reply[28..<32]) == [10, 66, 0, 1])

        let echo = try await OwnThread.run {
            try exchange(
                EthernetFrame.ping(from: mac, to: bridgeMAC, source: [10, 66, 0, 2], destination: [10, 66, 0, 1]), on: guest
            ) { $0[12...13] == [0x08, 0x00] && $0[23] == 1 && $0[34] == 0 }
        }
        #expect(Array(try #require(echo.last)[42..<74]) == [UInt8](repeating: 0x61, count: 32))

        // The other way: the outer side sends a datagram to the pod's other address, so it asks for it first. The
        // guest gets the question, and again a second later: nobody in the pod's namespace has answered although eth0
        // still holds both. Had anyone, the datagram would have come instead.
        try await NetworkNamespace.run(in: outer.path) { try sendDatagram(to: [10, 66, 0, 3]) }
        let questions = try await OwnThread.run {
            try (0..<2).flatMap { _ in
                try frames(on: guest) { $0[12...13] == [0x08, 0x06] && $0[20...21] == [0, 1] && Array($0[38..<42]) == [10, 66, 0, 3] }
            }
        }
        #expect(!questions.contains { Array($0[12..<14]) == [0x08, 0x00] && $0[23] == 17 })
    }
}

private func sendDatagram(to address: [UInt8]) throws {
    let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
    defer { close(descriptor) }
    var target = sockaddr_in()
    target.sin_family = sa_family_t(AF_INET)
    target.sin_port = UInt16(9).bigEndian
    target.sin_addr.s_addr = address.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
    let sent = withUnsafePointer(to: &target) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            sendto(descriptor, "x", 1, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
    }
    guard sent == 1 else { throw SwiftletError.system("sending a datagram") }
}

private func exchange(_ frame: [UInt8], on tap: Int32, until wanted: (ArraySlice<UInt8>) -> Bool) throws -> [[UInt8]] {
    // A virtio_net_hdr of zeros: no offloads.
    let bytes = [UInt8](repeating: 0, count: 10) + frame
    guard write(tap, bytes, bytes.count) == bytes.count else { throw SwiftletError.system("writing to the tap") }
    return try frames(on: tap, until: wanted)
}

/// Reads frames up to the first wanted one.
private func frames(on tap: Int32, until wanted: (ArraySlice<UInt8>) -> Bool) throws -> [[UInt8]] {
    var seen: [[UInt8]] = []
    while true {
        var descriptor = pollfd(fd: tap, events: Int16(POLLIN), revents: 0)
        guard poll(&descriptor, 1, 20_000) > 0 else { throw SwiftletError(.deadlineExceeded, "no frame came; before: \(seen)") }
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = read(tap, &buffer, buffer.count)
        guard count >= 10 + 42 else { continue }
        let frame = Array(buffer[10..<count])
        seen.append(frame)
        if wanted(frame[...]) { return seen }
    }
}
