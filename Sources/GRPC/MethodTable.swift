/// What a handler knows of its call besides the request.
public struct CallContext: Sendable {
    /// Full path: `/package.Service/Method`.
    public var method: String
    /// The client's metadata in the order received, keys in lower case. Values of keys ending in
    /// `-bin` are base64, as on the wire.
    public var metadata: [(String, String)]
    /// When the client stops waiting; the handler's task is cancelled then.
    public var deadline: ContinuousClock.Instant?
    /// The core's name for the other side, such as `unix:` or `ipv4:127.0.0.1:40312`. Not authenticated.
    public var peer: String

    public init(
        method: String, metadata: [(String, String)] = [], deadline: ContinuousClock.Instant? = nil, peer: String = ""
    ) {
        self.method = method
        self.metadata = metadata
        self.deadline = deadline
        self.peer = peer
    }

    /// The first value of `key` (lower case), if the client sent one.
    public func metadata(_ key: String) -> String? {
        metadata.first { $0.0 == key }?.1
    }
}

/// Where a streaming handler puts its messages.
public struct ResponseWriter: Sendable {
    private let send: @Sendable ([UInt8]) async throws -> Void

    /// A writer over any sink, so that handlers can be tested without a server.
    public init(_ send: @escaping @Sendable ([UInt8]) async throws -> Void) {
        self.send = send
    }

    /// Sends one message and returns when flow control has let it through: a slow client slows its handler.
    ///
    /// - Throws: `GRPCStatus` `cancelled` when the client is gone, `resourceExhausted` when the message
    ///   is larger than the server's limit.
    public func write(_ message: [UInt8]) async throws {
        try await send(message)
    }
}

/// What answers one method. Each call runs in a task of its own, which is cancelled when the client
/// cancels, its deadline passes or its connection is lost. A thrown `GRPCStatus` is answered as it
/// is; other errors go through the server's `errorStatus`.
public enum MethodHandler: Sendable {
    /// One request, one reply.
    case unary(@Sendable ([UInt8], CallContext) async throws -> [UInt8])
    /// One request, any number of replies; the stream ends when the handler returns.
    case serverStreaming(@Sendable ([UInt8], CallContext, ResponseWriter) async throws -> Void)
}

/// The methods a server answers, by path. The same handler may stand under several paths.
public struct MethodTable: Sendable {
    private(set) var handlers: [String: MethodHandler] = [:]

    public init() {}

    /// Adds or replaces the handler of `path`, which has the form `/package.Service/Method`.
    public mutating func add(path: String, _ handler: MethodHandler) {
        precondition(Self.split(path) != nil, "not a gRPC method path: \(path)")
        handlers[path] = handler
    }

    /// Names of the services that have at least one method; the health service knows these.
    public var services: Set<String> {
        Set(handlers.keys.compactMap { Self.split($0)?.service })
    }

    func handler(for path: String) -> MethodHandler? { handlers[path] }

    /// The answer to a call of a method nobody serves; it names the method and, where it is the
    /// service that is missing, that.
    func unimplemented(_ path: String) -> GRPCStatus {
        guard let (service, method) = Self.split(path) else { return GRPCStatus(.unimplemented, "malformed method path \"\(path)\"") }
        return services.contains(service)
            ? GRPCStatus(.unimplemented, "method \(method) of service \(service) is not implemented")
            : GRPCStatus(.unimplemented, "unknown service \(service) (method \(method))")
    }

    private static func split(_ path: String) -> (service: String, method: String)? {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0].isEmpty, !parts[1].isEmpty, !parts[2].isEmpty else { return nil }
        return (String(parts[1]), String(parts[2]))
    }
}
