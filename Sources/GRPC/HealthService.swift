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
                return Self.response(status)
            })
        methods.add(
            path: "/\(Self.name)/Watch",
            .serverStreaming { [self] request, _, writer in
                for await status in watch(try Self.service(in: request)) { try await writer.write(Self.response(status)) }
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

    /// Everything stops serving; watchers hear it and their streams end.
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

    // HealthCheckRequest { string service = 1; }   HealthCheckResponse { ServingStatus status = 1; }

    static func response(_ status: Status) -> [UInt8] { [0x08, status.rawValue] }

    /// Decodes the request; fields other than the service's name are skipped.
    static func service(in request: [UInt8]) throws -> String {
        var rest = request[...]
        var service = ""
        while !rest.isEmpty {
            let key = try varint(&rest)
            switch key & 7 {
            case 0: _ = try varint(&rest)
            case 1: rest = try dropping(8, rest)
            case 2:
                let length = try varint(&rest)
                let tail = try dropping(length, rest)
                if key >> 3 == 1 { service = String(decoding: rest[..<tail.startIndex], as: UTF8.self) }
                rest = tail
            case 5: rest = try dropping(4, rest)
            default: throw malformed
            }
        }
        return service
    }

    private static let malformed = GRPCStatus(.invalidArgument, "the HealthCheckRequest cannot be decoded")

    private static func dropping(_ count: UInt64, _ bytes: ArraySlice<UInt8>) throws -> ArraySlice<UInt8> {
        guard count <= UInt64(bytes.count) else { throw malformed }
        return bytes.dropFirst(Int(count))
    }

    private static func varint(_ bytes: inout ArraySlice<UInt8>) throws -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            guard let byte = bytes.popFirst() else { throw malformed }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
        }
        throw malformed
    }
}
