import Concurrency
import Errors
import Glibc
import Linux
import Runtime

@testable import PodNetwork

/// Plays the VM: holds the tap's descriptor as QEMU does, and has a network stack of its own (another namespace) behind
/// it that is configured from `AttachedNetwork` as the agent would.
final class PlayedGuest: Sendable {
    let path: String
    private let stop: Int32

    init(_ network: AttachedNetwork, tap: Int32, path: String) throws {
        self.path = path
        try NetworkNamespace.create(at: path)
        let inner = try NetworkNamespace.runAndWait(in: path) {
            try Tap.create("inner", uid: 0)
            let descriptor = try Tap.attach("inner")
            let netlink = try RouteNetlink()
            guard let link = try netlink.link(named: "inner") else { throw SwiftletError(.notFound, "inner tap") }
            try netlink.change(link: link.index, LinkChange(name: network.interfaceName, mac: MACAddress(network.mac), mtu: network.mtu))
            try netlink.change(link: link.index, LinkChange(up: true))
            for address in network.addresses.compactMap({ IPPrefix($0) }) { try netlink.add(address: address, link: link.index) }
            for route in network.routes {
                guard let destination = IPPrefix(route.destination) else { continue }
                try netlink.add(
                    route: LinkRoute(
                        destination: destination, gateway: IPAddress(route.gateway), link: link.index, source: IPAddress(route.source),
                        scope: UInt8(route.scope), mtu: route.mtu == 0 ? nil : route.mtu),
                    replacing: true)
            }
            return descriptor
        }
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw SwiftletError.system("making a pipe") }
        stop = ends[1]
        let stopped = ends[0]
        try OwnThread.start {
            Self.pump(tap, inner, until: stopped)
            close(tap)
            close(inner)
            close(stopped)
        }
    }

    deinit {
        close(stop)
        try? NetworkNamespace.delete(at: path)
    }

    /// Copies frames with their virtio headers, as a wire would: both sides have offered no offloads.
    private static func pump(_ first: Int32, _ second: Int32, until stop: Int32) {
        var buffer = [UInt8](repeating: 0, count: 80 << 10)
        while true {
            var descriptors = [first, second, stop].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            guard poll(&descriptors, 3, -1) > 0, descriptors[2].revents == 0 else { return }
            for (from, to) in [(0, 1), (1, 0)] where descriptors[from].revents & Int16(POLLIN) != 0 {
                let count = read(descriptors[from].fd, &buffer, buffer.count)
                if count > 0 { _ = write(descriptors[to].fd, buffer, count) }
            }
        }
    }
}

/// A TCP listener in a namespace that sends back what it gets, one connection after the other.
final class EchoListener: Sendable {
    private let descriptor: Int32

    init(in namespace: String, port: UInt16) throws {
        descriptor = try NetworkNamespace.runAndWait(in: namespace) {
            let descriptor = socket(AF_INET6, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_port = port.bigEndian
            let bound = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in6>.size)) }
            }
            guard bound == 0, listen(descriptor, 8) == 0 else { throw SwiftletError.system("listening") }
            return descriptor
        }
        let descriptor = descriptor
        try OwnThread.start {
            while case let connection = accept(descriptor, nil, nil), connection >= 0 {
                var buffer = [UInt8](repeating: 0, count: 64 << 10)
                while case let count = recv(connection, &buffer, buffer.count, 0), count > 0 {
                    _ = send(connection, buffer, count, Int32(MSG_NOSIGNAL))
                }
                close(connection)
            }
            close(descriptor)
        }
    }

    deinit { shutdown(descriptor, Int32(SHUT_RDWR)) }
}

/// Connects from inside a namespace, sends `bytes` and returns what comes back; fails after ten seconds of silence.
func echo(_ bytes: [UInt8], from namespace: String, to address: String, port: UInt16) async throws -> [UInt8] {
    try await NetworkNamespace.run(in: namespace) {
        guard let target = IPAddress(address) else { throw SwiftletError(.invalidArgument, address) }
        let descriptor = socket(AF_INET6, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        var peer = sockaddr_in6()
        peer.sin6_family = sa_family_t(AF_INET6)
        peer.sin6_port = port.bigEndian
        // IPv4 as ::ffff:a.b.c.d
        let raw = target.isIPv6 ? target.bytes : [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF] + target.bytes
        withUnsafeMutableBytes(of: &peer.sin6_addr) { $0.copyBytes(from: raw) }
        let connected = withUnsafePointer(to: &peer) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in6>.size)) }
        }
        guard connected == 0 else { throw SwiftletError.system("connecting to \(address) port \(port)") }
        try OwnThread.start {
            var rest = bytes[...]
            while !rest.isEmpty {
                let count = rest.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
                guard count > 0 else { return }
                rest = rest.dropFirst(count)
            }
        }
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while answer.count < bytes.count {
            let count = recv(descriptor, &buffer, buffer.count, 0)
            guard count > 0 else { throw SwiftletError.system("after \(answer.count) of \(bytes.count) bytes from \(address)") }
            answer += buffer[..<count]
        }
        return answer
    }
}
