import Foundation
import GRPC
import Logging
import Synchronization
import Testing

/// A server with small methods under /test.v1.Test/, on a socket in a directory of its own.
final class TestServer: Sendable {
    static let prefix = "/test.v1.Test/"

    let server: GRPCServer
    let endpoint: Endpoint
    let calls: CallCounts
    private let directory: TemporaryDirectory

    init(endpoint: Endpoint? = nil, maximumMessageBytes: Int = 16 * 1024 * 1024) throws {
        directory = try TemporaryDirectory()
        let calls = CallCounts()
        self.calls = calls
        let flip = HealthSwitch()
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        server = GRPCServer(methods: Self.methods(calls, flip), logger: logger, maximumMessageBytes: maximumMessageBytes)
        flip.server.withLock { [server] in $0 = server }
        server.setHealth(service: "flip", serving: true)
        self.endpoint = try server.listen(on: endpoint ?? .unix(path: directory.path + "/s.sock"))
        server.start()
    }

    /// What Python's grpcio calls the endpoint.
    var target: String {
        switch endpoint {
        case .unix(let path): "unix://\(path)"
        case .tcp(let host, let port): "\(host):\(port)"
        }
    }

    /// Runs `body` against a fresh server and shuts it down afterwards.
    static func with<Result>(_ body: (TestServer) async throws -> Result) async throws -> Result {
        let server = try TestServer()
        do {
            let result = try await body(server)
            await server.server.shutdown(grace: .zero)
            return result
        } catch {
            await server.server.shutdown(grace: .zero)
            throw error
        }
    }

    private static func methods(_ calls: CallCounts, _ flip: HealthSwitch) -> MethodTable {
        var methods = MethodTable()
        methods.add(path: prefix + "Echo", .unary { request, _ in request })
        methods.add(
            path: prefix + "Size",
            .unary { request, _ in [UInt8](repeating: 7, count: Int(String(decoding: request, as: UTF8.self)) ?? 0) })
        methods.add(path: prefix + "Slow", .unary { _, _ in try await calls.untilCancelled() })
        methods.add(
            path: prefix + "Context",
            .unary { _, context in
                let pairs = context.metadata.filter { $0.0.hasPrefix("x-") }.map { "\($0.0)=\($0.1)" }
                return Array((pairs + ["deadline=\(context.deadline != nil)", "method=\(context.method)"]).joined(separator: " ").utf8)
            })
        methods.add(
            path: prefix + "Fail",
            .unary { request, _ in throw GRPCStatus(.failedPrecondition, String(decoding: request, as: UTF8.self)) })
        methods.add(path: prefix + "Crash", .unary { _, _ in throw CocoaError(.fileNoSuchFile) })
        methods.add(
            path: prefix + "Toggle",
            .unary { _, _ in
                flip.toggle()
                return []
            })
        methods.add(
            path: prefix + "Ticks",
            .serverStreaming { request, _, writer in
                let count = Int(String(decoding: request, as: UTF8.self)) ?? 0
                if count >= 0 {
                    for tick in 0..<count { try await writer.write(Array("\(tick)".utf8)) }
                    return
                }
                try await writer.write(Array("0".utf8))
                _ = try await calls.untilCancelled()
            })
        methods.add(
            path: prefix + "Flood",
            .serverStreaming { _, _, writer in
                while true {
                    try await writer.write([UInt8](repeating: 0, count: 64 * 1024))
                    calls.written.wrappingAdd(1, ordering: .relaxed)
                }
            })
        return methods
    }
}

/// Counts calls that wait for their cancellation, and lets a test wait for the counts.
final class CallCounts: Sendable {
    struct Counts: Sendable {
        var started = 0
        var cancelled = 0
    }

    /// Messages that "Flood" has got rid of.
    let written = Atomic(0)
    private let counts = Mutex(Counts())
    private let changes = AsyncStream.makeStream(of: Void.self)

    var now: Counts { counts.withLock { $0 } }

    /// Suspends until the task is cancelled, then throws.
    func untilCancelled() async throws -> [UInt8] {
        counts.withLock { $0.started += 1 }
        changes.continuation.yield()
        let never = AsyncStream<Never> { _ in }
        for await _ in never {}
        counts.withLock { $0.cancelled += 1 }
        changes.continuation.yield()
        throw CancellationError()
    }

    /// Suspends until the counts fit, or the test's time is up. For one waiter at a time.
    func reach(_ fits: (Counts) -> Bool) async {
        if fits(now) { return }
        for await _ in changes.stream where fits(now) { return }
    }
}

/// Turns the health of the service "flip" on and off.
private final class HealthSwitch: Sendable {
    let server = Mutex<GRPCServer?>(nil)
    private let serving = Mutex(true)

    func toggle() {
        let now = serving.withLock { serving in
            serving.toggle()
            return serving
        }
        server.withLock { $0 }?.setHealth(service: "flip", serving: now)
    }
}

/// A directory that goes with the object.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "grpc-" + UUID().uuidString.prefix(8)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }
}
