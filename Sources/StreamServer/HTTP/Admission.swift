import Crypto
import Errors
import Foundation
import NIOHTTP1

/// What becomes of a request: an upgrade, or an answer in words.
enum Admission {
    case spdy(AllowedRequest, SPDYProtocol, HTTPHeaders)
    case webSocket(AllowedRequest, WebSocketProtocol, HTTPHeaders)
    case refused(HTTPResponseStatus, String, HTTPHeaders)

    enum SPDYProtocol: Equatable, Sendable {
        case command(CommandProtocol)
        case portForward
    }

    static let protocolHeader = "X-Stream-Protocol-Version"
    static let portForwardProtocol = "portforward.k8s.io"

    /// The token is used by this, whatever comes of it.
    init(_ head: HTTPRequestHead, _ tokens: TokenStore) {
        let parts = head.uri.prefix { $0 != "?" }.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0].isEmpty, let allowed = tokens.redeem(parts[2]), allowed.request.route == parts[1] else {
            self = .refused(.notFound, "no such stream: the token is unknown, used or expired", [:])
            return
        }
        guard head.method == .GET || head.method == .POST else {
            self = .refused(.methodNotAllowed, "use GET or POST with an upgrade", ["Allow": "GET, POST"])
            return
        }
        guard head.version == .http1_1, head.headers.hasToken("upgrade", in: "Connection") else {
            self = .refused(.badRequest, "unable to upgrade: the request asks for no upgrade (Connection: Upgrade)", [:])
            return
        }
        if head.headers.hasToken("spdy/3.1", in: "Upgrade") {
            self = Self.spdy(allowed, head.headers)
        } else if head.headers.hasToken("websocket", in: "Upgrade") {
            self = Self.webSocket(allowed, head)
        } else {
            let asked = head.headers[canonicalForm: "Upgrade"].joined(separator: ", ")
            self = .refused(.badRequest, "unable to upgrade: SPDY/3.1 and websocket are served, not \(quoted(asked))", [:])
        }
    }

    private static func spdy(_ allowed: AllowedRequest, _ headers: HTTPHeaders) -> Admission {
        let asked = headers[canonicalForm: protocolHeader].map(String.init)
        let offered: [String]
        let chosen: SPDYProtocol?
        if case .portForward = allowed.request {
            offered = [portForwardProtocol]
            // A client that asks for none gets the only one.
            chosen = asked.isEmpty || asked.contains(portForwardProtocol) ? .portForward : nil
        } else {
            offered = CommandProtocol.overSPDY.map(\.rawValue)
            // The client's order counts; without any, it is the first version, which had no negotiation.
            let command = asked.lazy.filter(offered.contains).compactMap(CommandProtocol.init).first
            chosen = (asked.isEmpty ? .v1 : command).map { .command($0) }
        }
        guard let chosen else {
            let text = "unable to upgrade: the client speaks \(quoted(asked.joined(separator: ", "))), the server "
            return .refused(
                .forbidden, text + offered.joined(separator: ", "),
                HTTPHeaders(offered.map { ("X-Accepted-Stream-Protocol-Versions", $0) }))
        }
        var answer: HTTPHeaders = ["Connection": "Upgrade", "Upgrade": "SPDY/3.1"]
        if !asked.isEmpty {
            switch chosen {
            case .command(let version): answer.add(name: protocolHeader, value: version.rawValue)
            case .portForward: answer.add(name: protocolHeader, value: portForwardProtocol)
            }
        }
        return .spdy(allowed, chosen, answer)
    }

    private static func webSocket(_ allowed: AllowedRequest, _ head: HTTPRequestHead) -> Admission {
        guard head.method == .GET, head.headers["Sec-WebSocket-Version"] == ["13"],
            let key = head.headers["Sec-WebSocket-Key"].first, Data(base64Encoded: key)?.count == 16
        else {
            return .refused(
                .badRequest, "unable to upgrade: a WebSocket is asked for by GET, version 13 and a key of 16 bytes",
                ["Sec-WebSocket-Version": "13"])
        }
        let asked = head.headers[canonicalForm: "Sec-WebSocket-Protocol"].map(String.init)
        guard let chosen = WebSocketProtocol.choose(from: asked, for: allowed.request) else {
            let text = "unable to upgrade: the client speaks \(quoted(asked.joined(separator: ", "))), the server "
            return .refused(.forbidden, text + WebSocketProtocol.offered(for: allowed.request).joined(separator: ", "), [:])
        }
        // RFC 6455, section 4.2.2.
        let digest = Insecure.SHA1.hash(data: Data((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8))
        var answer: HTTPHeaders = [
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Accept": Data(digest).base64EncodedString(),
        ]
        if !asked.isEmpty { answer.add(name: "Sec-WebSocket-Protocol", value: chosen.name) }
        return .webSocket(allowed, chosen, answer)
    }
}

extension HTTPHeaders {
    /// Whether a list of words has this one, in whatever case.
    fileprivate func hasToken(_ token: String, in name: String) -> Bool {
        self[canonicalForm: name].contains { $0.lowercased() == token }
    }
}
