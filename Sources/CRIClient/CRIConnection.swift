import CRI
import GRPC
import SwiftProtobuf

/// A CRI client: typed calls, errors as the server sent them.
public struct CRIConnection: Sendable {
    private let client: GRPCClient
    private let version: CRIVersion

    public init(endpoint: Endpoint, version: CRIVersion = .v1) {
        client = GRPCClient(endpoint: endpoint)
        self.version = version
    }

    /// - Parameter endpoint: `unix:///PATH` or `tcp://HOST:PORT`.
    /// - Throws: `.invalidArgument` for anything else.
    public init(endpoint: String, version: CRIVersion = .v1) throws {
        self.init(endpoint: try Endpoint(parsing: endpoint), version: version)
    }

    /// - Parameter timeout: nil is without limit.
    /// - Throws: `GRPCStatus`; `BinaryDecodingError` for a reply that is no `Response`.
    public func call<Request, Response>(
        _ method: RPCDescriptor<Request, Response>, _ request: Request, timeout: Duration? = .seconds(240)
    ) async throws -> Response {
        let reply = try await client.unary(method.path(version: version), try request.serializedBytes(), timeout: timeout)
        return try Response(serializedBytes: reply)
    }

    /// - Parameter timeout: nil is without limit.
    /// - Throws: the stream throws `GRPCStatus`.
    public func stream<Request, Response>(
        _ method: RPCDescriptor<Request, Response>, _ request: Request, timeout: Duration? = nil
    ) throws -> AsyncThrowingMapSequence<AsyncThrowingStream<[UInt8], any Error>, Response> {
        client.serverStreaming(method.path(version: version), try request.serializedBytes(), timeout: timeout)
            .map { try Response(serializedBytes: $0) }
    }

    public func close() async {
        await client.close()
    }
}
