/// A subprotocol: what a message's first byte and its rest are.
struct WebSocketProtocol: Equatable, Sendable {
    /// As it is negotiated; empty where the client asks for none.
    let name: String
    let session: Session
    /// Messages are text: a digit for the channel, then base64.
    let isBase64: Bool

    enum Session: Equatable, Sendable {
        case command(CommandProtocol)
        /// Two channels for each port.
        case portForward
        /// SPDY's bytes in binary messages, without channels.
        case tunnel
    }

    /// The best first.
    private static let command = [
        WebSocketProtocol(name: "v5.channel.k8s.io", session: .command(.v5), isBase64: false),
        WebSocketProtocol(name: "v4.channel.k8s.io", session: .command(.v4), isBase64: false),
        WebSocketProtocol(name: "v4.base64.channel.k8s.io", session: .command(.v4), isBase64: true),
        WebSocketProtocol(name: "channel.k8s.io", session: .command(.v1), isBase64: false),
        WebSocketProtocol(name: "base64.channel.k8s.io", session: .command(.v1), isBase64: true),
        WebSocketProtocol(name: "", session: .command(.v1), isBase64: false),
    ]
    private static let portForward = [
        WebSocketProtocol(name: "SPDY/3.1+portforward.k8s.io", session: .tunnel, isBase64: false),
        WebSocketProtocol(name: "v4.channel.k8s.io", session: .portForward, isBase64: false),
        WebSocketProtocol(name: "v4.base64.channel.k8s.io", session: .portForward, isBase64: true),
        WebSocketProtocol(name: "", session: .portForward, isBase64: false),
    ]

    private static func all(for request: StreamRequest) -> [WebSocketProtocol] {
        if case .portForward = request { return portForward }
        return command
    }

    static func offered(for request: StreamRequest) -> [String] { all(for: request).map(\.name).filter { !$0.isEmpty } }

    /// The first of the client's that is served.
    static func choose(from asked: [String], for request: StreamRequest) -> WebSocketProtocol? {
        let served = all(for: request)
        if asked.isEmpty { return served.first { $0.name.isEmpty } }
        return asked.lazy.compactMap { name in served.first { $0.name == name && !name.isEmpty } }.first
    }
}
