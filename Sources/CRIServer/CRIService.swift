import CRI
import CoreMetrics
import Errors
import GRPC
import Images
import Logging
import Pods
import Runtime
import SwiftProtobuf

/// Answers the CRI: decodes, validates, calls `Pods` or `Images` once, encodes.
public struct CRIService: Sendable {
    let pods: PodRegistry
    let images: ImageStore
    /// Swiftlet's own version, as Version answers it.
    let version: String
    let paths: NodePaths
    /// The daemon's configuration in JSON, for verbose Status.
    let configuration: String
    let cgroupDriver: CgroupDriver
    let metrics: RPCMetrics
    let logger: Logger

    public init(
        pods: PodRegistry, images: ImageStore, version: String, paths: NodePaths, configuration: String = "{}",
        cgroupDriver: CgroupDriver = .detect(), metrics: any MetricsFactory = MetricsSystem.factory, logger: Logger
    ) {
        self.paths = paths
        self.configuration = configuration
        self.cgroupDriver = cgroupDriver
        self.metrics = RPCMetrics(factory: metrics)
        self.pods = pods
        self.images = images
        self.version = version
        self.logger = logger
    }

    /// Every method of both services under both versions, and the operator's own.
    public func methodTable() -> MethodTable {
        var table = MethodTable()
        // First: what is served replaces it.
        addUnimplemented(to: &table)
        addRuntimeMethods(to: &table)
        addImageMethods(to: &table)
        addOperatorMethods(to: &table)
        return table
    }

    /// Adds one unary method under every version, wrapped by logging and error mapping.
    func add<Request, Response>(
        _ method: RPCDescriptor<Request, Response>, to table: inout MethodTable,
        _ body: @escaping @Sendable (Request) async throws -> Response
    ) {
        addEncoded(method, to: &table) { try await body($0).serializedBytes() }
    }

    /// As `add`, for a method that knows when its client stops waiting, and says before that what has not happened.
    func add<Request, Response>(
        _ method: RPCDescriptor<Request, Response>, to table: inout MethodTable,
        _ body: @escaping @Sendable (Request, ContinuousClock.Instant?) async throws -> Response
    ) {
        register(method, in: &table) { try await body($0, $1.deadline).serializedBytes() }
    }

    /// As `add`, for a method that encodes its reply itself.
    func addEncoded<Request, Response>(
        _ method: RPCDescriptor<Request, Response>, to table: inout MethodTable,
        _ body: @escaping @Sendable (Request) async throws -> [UInt8]
    ) {
        register(method, in: &table) { request, _ in try await body(request) }
    }

    private func register<Request, Response>(
        _ method: RPCDescriptor<Request, Response>, in table: inout MethodTable,
        _ body: @escaping @Sendable (Request, CallContext) async throws -> [UInt8]
    ) {
        for version in CRIVersion.allCases {
            table.add(
                path: method.path(version: version),
                .unary { bytes, call in
                    try await self.instrumented(method.name) {
                        try await body(try Self.decode(Request.self, bytes, method.name), call)
                    }
                })
        }
    }

    /// As `add`, for a method that answers with a stream.
    func addStreaming<Request, Response>(
        _ method: RPCDescriptor<Request, Response>, to table: inout MethodTable,
        _ body: @escaping @Sendable (Request, ResponseWriter) async throws -> Void
    ) {
        for version in CRIVersion.allCases {
            table.add(
                path: method.path(version: version),
                .serverStreaming { bytes, _, writer in
                    try await self.instrumented(method.name) {
                        try await body(try Self.decode(Request.self, bytes, method.name), writer)
                    }
                })
        }
    }

    /// What to do instead of calling a method that is not served.
    private static func hint(_ method: String) -> String {
        switch method {
        case RuntimeRPC.checkpointContainer.name, RuntimeRPC.checkpointPod.name, RuntimeRPC.restorePod.name:
            ": it does not save running processes"
        default: ""
        }
    }

    private func addUnimplemented(to table: inout MethodTable) {
        let services = [("RuntimeService", RuntimeRPC.allNames), ("ImageService", ImageRPC.allNames)]
        for (service, names) in services {
            for name in names {
                for version in CRIVersion.allCases {
                    table.add(
                        path: "/\(version.rawValue).\(service)/\(name)",
                        .unary { _, _ in throw GRPCStatus(.unimplemented, "\(name) is not implemented by Swiftlet\(Self.hint(name))") })
                }
            }
        }
    }

    private static func decode<Request: Message>(_ type: Request.Type, _ bytes: [UInt8], _ method: String) throws -> Request {
        do {
            return try Request(serializedBytes: bytes)
        } catch {
            throw SwiftletError(.invalidArgument, "\(method): the request is not a \(Request.protoMessageName): \(error)")
        }
    }

    private func instrumented<Value>(_ method: String, _ body: () async throws -> Value) async throws -> Value {
        let start = ContinuousClock.now
        do {
            let value = try await body()
            let took = ContinuousClock.now - start
            metrics.ended(method, .ok, after: took)
            logger.debug("rpc", metadata: ["method": "\(method)", "took": "\(took)"])
            return value
        } catch {
            let (status, took) = (ErrorMapping.status(of: error), ContinuousClock.now - start)
            metrics.ended(method, status.code, after: took)
            logger.log(
                level: status.code == .notFound ? .debug : .warning, "rpc failed",
                metadata: [
                    // A message may quote what a plugin or a guest wrote, in many lines.
                    "method": "\(method)", "code": "\(status.code)", "message": "\(printable(status.message, limit: 4096))",
                    "took": "\(took)",
                ])
            throw status
        }
    }
}
