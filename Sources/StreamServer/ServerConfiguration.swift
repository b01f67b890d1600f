import NIOCore

/// Where the server listens, and what it allows.
public struct ServerConfiguration: Sendable {
    public var host: String
    /// 0: the kernel chooses.
    public var port: Int
    public var tls: TLSFiles?

    /// Connections at once; another one is closed.
    public var maximumConnections = 1024
    /// Streams of a SPDY connection at once: two for each connection of a port-forward.
    public var maximumStreams = 2048
    /// Bytes of a WebSocket message.
    public var maximumMessage = 1 << 20
    /// The time and the bytes within which a request's head must have come.
    public var headTimeout = TimeAmount.seconds(10)
    public var maximumHead = 16 << 10
    /// The time within which a client must have opened its streams.
    public var streamCreationTimeout = Duration.seconds(30)
    /// How long a terminal's first size is waited for, so that the process has it from its first instruction on. kubectl sends it at once.
    public var firstSizePatience = Duration.milliseconds(500)
    /// A session on which nothing moves for so long ends.
    public var idleTimeout = TimeAmount.hours(4)

    public init(host: String = "127.0.0.1", port: Int = 0, tls: TLSFiles? = nil) {
        (self.host, self.port, self.tls) = (host, port, tls)
    }

    /// A certificate chain and its key, PEM. They are read again when they have changed.
    public struct TLSFiles: Sendable, Equatable {
        public var certificate: String
        public var key: String

        public init(certificate: String, key: String) { (self.certificate, self.key) = (certificate, key) }
    }
}
