import SwiftProtobuf
import Synchronization

/// The standard health service, grpc.health.v1.Health
/// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
final class HealthService: Sendable {
    /// Numbers of `HealthCheckResponse.ServingStatus`.
    enum Status: UInt8, Sendable {
        case serving = 1
        case notServing = 2
        case serviceUnknown = 3
    }

    private struct State {
        var services: [String: Status]
        var watchers: [Int: (service: String, stream: AsyncStream<Status>.Continuation)] = [:]
        var nextWatcher = 0
        var stopping = false
    }

    private static let name = "grpc.health.v1.Health"
    private let state: Mutex<State>

    init(services: Set<String>) {
        var statuses: [String: Status] = ["": .serving, Self.name: .serving]
        for service in services { statuses[service] = .serving }
        state = Mutex(State(services: statuses))
    }

    func register(in methods: inout MethodTable) {
        methods.add(
            path: "/\(Self.name)/Check",
            .unary { [self] request, _ in
                let service = try Self.service(in: request)
                guard let status = state.withLock({ $0.services[service] }) else {
                    throw GRPCStatus(.notFound, "unknown service \"\(service)\"")
                }
                return try Self.response(status)
            })
        methods.add(
            path: "/\(Self.name)/Watch",
            .serverStreaming { [self] request, _, writer in
                for await status in watch(try Self.service(in: request)) { try await writer.write(try Self.response(status)) }
                try Task.checkCancellation()
                throw GRPCStatus(.unavailable, "the server is shutting down")
            })
    }

    func set(_ service: String, _ status: Status) {
        state.withLock { state in
            guard !state.stopping, state.services.updateValue(status, forKey: service) != status else { return }
            for watcher in state.watchers.values where watcher.service == service { watcher.stream.yield(status) }
        }
    }

    /// Everything stops serving: watchers receive it and their streams end.
    func shutDown() {
        let watchers = state.withLock { state in
            state.stopping = true
            state.services = state.services.mapValues { _ in .notServing }
            for watcher in state.watchers.values { watcher.stream.yield(state.services[watcher.service] ?? .serviceUnknown) }
            defer { state.watchers = [:] }
            return state.watchers.values.map(\.stream)
        }
        // Ending a stream calls back into `watch`, which takes the lock.
        watchers.forEach { $0.finish() }
    }

    /// The status now and each change of it; a slow watcher sees only the latest.
    private func watch(_ service: String) -> AsyncStream<Status> {
        AsyncStream(bufferingPolicy: .bufferingNewest(1)) { stream in
            let (id, stopping) = state.withLock { state in
                state.nextWatcher += 1
                stream.yield(state.services[service] ?? .serviceUnknown)
                if !state.stopping { state.watchers[state.nextWatcher] = (service, stream) }
                return (state.nextWatcher, state.stopping)
            }
            stream.onTermination = { [self] _ in state.withLock { _ = $0.watchers.removeValue(forKey: id) } }
            if stopping { stream.finish() }
        }
    }

    // On the wire HealthCheckRequest { string service = 1; } is a StringValue, and HealthCheckResponse { ServingStatus status = 1; }
    // an Int32Value: wrappers.proto has one field 1 each, and an enumeration is encoded as an int32.

    private static func response(_ status: Status) throws -> [UInt8] {
        try Google_Protobuf_Int32Value.with { $0.value = Int32(status.rawValue) }.serializedBytes()
    }

    private static func service(in request: [UInt8]) throws -> String {
        do {
            return try Google_Protobuf_StringValue(serializedBytes: request).value
        } catch {
            throw GRPCStatus(.invalidArgument, "the request is no HealthCheckRequest: \(error)")
        }
    }
}
