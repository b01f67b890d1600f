import Errors
import Linux

/// Where sessions are served.
public struct SessionAddress: Equatable, Sendable {
    public var host: String
    /// 0: the kernel chooses.
    public var port: Int

    public init(host: String, port: Int) { (self.host, self.port) = (host, port) }

    /// - Throws: `.invalidArgument` for what is no address with a port, and for a wildcard: a URL must name an address.
    public init(parsing text: String) throws {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            throw SwiftletError(.invalidArgument, "address \(quoted(text)) is not of the form ADDRESS:PORT")
        }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        guard let address = IPAddress(host) else { throw SwiftletError(.invalidArgument, "address \(quoted(text)) has no IP address") }
        guard !address.isUnspecified, !address.isMulticast else {
            throw SwiftletError(.invalidArgument, "address \(quoted(text)) is not one that a URL could name")
        }
        self.init(host: host, port: Int(port))
    }

    /// The address of a configuration; nil where nobody is to be served.
    ///
    /// - Throws: `.invalidArgument` also for one that other nodes could reach with nothing encrypted, and for a certificate or key alone.
    public static func checked(_ text: String, certificate: String, key: String) throws -> SessionAddress? {
        guard certificate.isEmpty == key.isEmpty else {
            throw SwiftletError(.invalidArgument, "a certificate and its key are given both or not at all")
        }
        for path in [certificate, key] where !path.isEmpty && !path.hasPrefix("/") {
            throw SwiftletError(.invalidArgument, "the path \(quoted(path)) is not absolute")
        }
        guard !text.isEmpty else { return nil }
        let address = try SessionAddress(parsing: text)
        guard !certificate.isEmpty || IPAddress(address.host)?.isLoopback == true else {
            throw SwiftletError(
                .invalidArgument, "address \(quoted(text)) is not a loopback one: other nodes could reach it, so it needs a certificate")
        }
        return address
    }
}
