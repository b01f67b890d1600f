import Errors
import Foundation
import Glibc
import Synchronization

/// As much of an API server as kubectl needs for exec, attach, port-forward and cp: discovery, one pod of any name with one container,
/// and the hand-over of its streaming requests to the URL that a runtime has returned.
public final class KubernetesStandIn: Sendable {
    /// One streaming request: `exec`, `attach` or `portforward`, and the query's values.
    public struct Stream: Sendable {
        public var kind: String
        public var pod: String
        public var query: [String: [String]]

        public func isSet(_ name: String) -> Bool { ["true", "1"].contains(query[name]?.first) }
    }

    public let port: UInt16
    public var address: String { "http://127.0.0.1:\(port)" }
    private let asked = Mutex<[String]>([])
    private let listener: Int32
    private let hasTerminal: Bool
    private let open: @Sendable (Stream) throws -> String

    /// - Parameter hasTerminal: the pod's container has a terminal, which `kubectl attach -t` asks for.
    /// - Parameter open: the URL of a stream, as a CRI returns it.
    public init(hasTerminal: Bool = false, open: @escaping @Sendable (Stream) throws -> String) throws {
        (self.hasTerminal, self.open) = (hasTerminal, open)
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var name = Self.loopback(port: 0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let listener = listener
        let result = withUnsafeMutablePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(listener, address, length) == 0 && listen(listener, 128) == 0 && getsockname(listener, address, &length) == 0
            }
        }
        guard result else { throw SystemError(errno) }
        port = UInt16(bigEndian: name.sin_port)
        Thread.detachNewThread { [self] in
            while true {
                let client = Glibc.accept(listener, nil, nil)
                guard client >= 0 else { return }
                Thread.detachNewThread { self.serve(client) }
            }
        }
    }

    /// The streams that were asked for, and by which protocol: "exec spdy/3.1".
    public var upgrades: [String] { asked.withLock { $0 } }

    public func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

    private static func loopback(port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return address
    }

    private func serve(_ client: Int32) {
        guard let (head, rest) = Self.readHead(client) else { return _ = close(client) }
        // "\r\n" is one Character.
        let words = head.prefix { $0 != "\r\n" }.split(separator: " ")
        guard words.count == 3, let url = URLComponents(string: String(words[1])) else { return _ = close(client) }
        let parts = url.path.split(separator: "/").map(String.init)
        if parts.count == 7, parts[4] == "pods" {
            relay(client, head, rest, Stream(kind: parts[6], pod: parts[5], query: Self.query(url)))
        } else {
            answer(client, parts)
        }
    }

    private static func query(_ url: URLComponents) -> [String: [String]] {
        // Go writes a space as "+", which URLComponents leaves as it is.
        var url = url
        url.percentEncodedQuery = url.percentEncodedQuery?.replacing("+", with: "%20")
        return Dictionary(grouping: url.queryItems ?? []) { $0.name }.mapValues { $0.compactMap(\.value) }
    }

    private static func readHead(_ client: Int32) -> (head: String, rest: [UInt8])? {
        var (bytes, part) = ([UInt8](), [UInt8](repeating: 0, count: 16384))
        while true {
            let count = recv(client, &part, part.count, 0)
            guard count > 0 else { return nil }
            bytes += part[..<count]
            let end = Array("\r\n\r\n".utf8)
            if let at = bytes.indices.first(where: { bytes[$0...].starts(with: end) }) {
                return (String(decoding: bytes[..<(at + 4)], as: UTF8.self), Array(bytes[(at + 4)...]))
            }
        }
    }

    // MARK: Streams

    private func relay(_ client: Int32, _ head: String, _ rest: [UInt8], _ stream: Stream) {
        let upgrade = head.components(separatedBy: "\r\n").first { $0.lowercased().hasPrefix("upgrade:") }?.dropFirst(8) ?? ""
        asked.withLock { $0.append("\(stream.kind) \(upgrade.trimmingCharacters(in: .whitespaces).lowercased())") }
        guard let url = try? URLComponents(string: open(stream)), let port = url.port else {
            return reply(client, "500 Internal Server Error", "no URL")
        }
        let server = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = Self.loopback(port: UInt16(port))
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(server, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard result == 0 else { return reply(client, "502 Bad Gateway", "errno \(errno)") }
        for descriptor in [client, server] {
            var one: Int32 = 1
            setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(4))
        }
        let method = head.prefix { $0 != " " }
        let request = "\(method) \(url.path) HTTP/1.1" + head[(head.firstIndex(of: "\r\n") ?? head.endIndex)...]
        guard TCPClient.sendAll(server, Array(request.utf8) + rest) else { return }
        let done = DispatchSemaphore(value: 0)
        Thread.detachNewThread {
            Self.copy(from: client, to: server)
            done.signal()
        }
        Self.copy(from: server, to: client)
        done.wait()
        close(client)
        close(server)
    }

    private static func copy(from source: Int32, to sink: Int32) {
        var part = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = recv(source, &part, part.count, 0)
            guard count > 0 else { break }
            guard TCPClient.sendAll(sink, Array(part[..<count])) else {
                shutdown(source, Int32(SHUT_RD))
                break
            }
        }
        shutdown(sink, Int32(SHUT_WR))
    }

    // MARK: Documents

    private func answer(_ client: Int32, _ parts: [String]) {
        switch parts {
        case ["version"]: reply(client, "200 OK", #"{"major":"1","minor":"20","gitVersion":"v1.20.0"}"#)
        case ["api"]: reply(client, "200 OK", #"{"kind":"APIVersions","versions":["v1"]}"#)
        case ["apis"]: reply(client, "200 OK", #"{"kind":"APIGroupList","apiVersion":"v1","groups":[]}"#)
        case ["api", "v1"]:
            let resource = #"{"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["get","list","watch"]}"#
            reply(client, "200 OK", #"{"kind":"APIResourceList","groupVersion":"v1","resources":[\#(resource)]}"#)
        case _ where parts.count == 6 && parts[4] == "pods": reply(client, "200 OK", pod(parts[5]))
        default:
            reply(
                client, "404 Not Found",
                #"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","message":"not found","code":404}"#)
        }
    }

    private func pod(_ name: String) -> String {
        let container = #"{"name":"main","image":"main","stdin":true,"tty":\#(hasTerminal)}"#
        let status = #"{"phase":"Running","containerStatuses":[{"name":"main","ready":true,"state":{"running":{}}}]}"#
        return #"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"\#(name)","namespace":"default"},"#
            + #""spec":{"containers":[\#(container)]},"status":\#(status)}"#
    }

    private func reply(_ client: Int32, _ status: String, _ body: String) {
        let head =
            "HTTP/1.1 \(status)\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\nConnection: close\r\n\r\n"
        _ = TCPClient.sendAll(client, Array((head + body).utf8))
        close(client)
    }
}
