import Errors
import NIOCore
import StreamControl
import StreamServer

/// How clients are to be served, as swiftletd has said it.
struct SessionConfiguration: Equatable, Sendable {
    /// As it was given; empty: nowhere.
    let address: String
    let endpoint: SessionAddress?
    let tls: ServerConfiguration.TLSFiles?
    let limits: SessionLimits
    /// Beyond what a node's sessions may be configured to.
    private static let maximumConnections = 4096
    private let streamCreationTimeout: UInt64
    private let idleTimeout: UInt64

    /// - Throws: `.invalidArgument` naming what cannot be served.
    init(_ request: StreamConfigureRequest) throws {
        address = request.address
        endpoint = try SessionAddress.checked(request.address, certificate: request.certificate, key: request.key)
        tls = request.certificate.isEmpty ? nil : ServerConfiguration.TLSFiles(certificate: request.certificate, key: request.key)
        let defaults = SessionLimits()
        func limit(_ number: UInt32, _ otherwise: Int) -> Int { number == 0 ? otherwise : Int(number) }
        limits = SessionLimits(
            container: limit(request.containerSessions, defaults.container), pod: limit(request.podSessions, defaults.pod),
            node: limit(request.nodeSessions, defaults.node))
        // A year is within every type that takes it.
        func bounded(_ time: UInt64) -> UInt64 { min(time, 365 * 24 * 3600 * 1000) }
        (streamCreationTimeout, idleTimeout) = (bounded(request.streamCreationTimeout), bounded(request.idleTimeout))
    }

    /// Whether a server for this one does for the other as well: limits are counted elsewhere.
    func isServedAs(_ other: SessionConfiguration) -> Bool {
        (address, tls) == (other.address, other.tls)
            && (streamCreationTimeout, idleTimeout) == (other.streamCreationTimeout, other.idleTimeout)
    }

    var server: ServerConfiguration {
        var server = ServerConfiguration(host: endpoint?.host ?? "127.0.0.1", port: endpoint?.port ?? 0, tls: tls)
        // The sessions' own limits are lower. Who has not said yet whose session it is has ten seconds.
        server.maximumConnections = Self.maximumConnections
        if streamCreationTimeout > 0 { server.streamCreationTimeout = .milliseconds(Int64(streamCreationTimeout)) }
        if idleTimeout > 0 { server.idleTimeout = .milliseconds(Int64(idleTimeout)) }
        return server
    }
}
