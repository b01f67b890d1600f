import Errors
import Linux

/// Where sessions are served.
public struct SessionAddress: Equatable, Sendable {
    public var host: String
    /// 0: the kernel chooses.
    public var port: Int

    public init(host: String, port: Int) { (self.host, self.port) = (host, port) }

    /// - Throws: `.invalidArgument` for what is no address with a port, and for one that is not the node's loopback: nothing on the way
    ///   is encrypted.
    public init(parsing text: String) throws {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            throw SwiftletError(.invalidArgument, "address \(quoted(text)) is not of the form ADDRESS:PORT")
        }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        guard let address = IPAddress(host) else { throw SwiftletError(.invalidArgument, "address \(quoted(text)) has no IP address") }
        guard address.isLoopback else {
            throw SwiftletError(.invalidArgument, "address \(quoted(text)) is not a loopback one: other nodes could reach it")
        }
        self.init(host: host, port: Int(port))
    }

    public var url: String { host.contains(":") ? "http://[\(host)]:\(port)" : "http://\(host):\(port)" }
}
