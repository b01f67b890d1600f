import DequeModule
import Errors
import Runtime
import Synchronization

/// Those who see a container's output as it comes, beside its log. They hold nobody up: who reads too slowly loses bytes, and is told.
public final class OutputFollowers: Sendable {
    private struct State {
        var followers: [ObjectIdentifier: OutputFollower] = [:]
        var ended: Set<StandardStream> = []
        /// How much of each source has been shown, while there is somebody to show it to.
        var shown: OutputOffsets?
    }

    private let state = Mutex(State())

    public init() {}

    var isEmpty: Bool { state.withLock { $0.followers.isEmpty } }

    /// Of output that has no log here.
    public func join() -> OutputFollower {
        let follower = OutputFollower { [self] in remove($0) }
        add(follower)
        return follower
    }

    /// Shows bytes that come once.
    public func show(_ bytes: [UInt8], from source: StandardStream) {
        for follower in state.withLock({ Array($0.followers.values) }) { follower.offer(bytes, from: source) }
    }

    /// What has ended stays so for who comes later.
    func add(_ follower: OutputFollower) {
        let ended = state.withLock { state in
            state.followers[ObjectIdentifier(follower)] = follower
            return state.ended
        }
        for source in ended { follower.finish(source) }
    }

    func remove(_ follower: OutputFollower) {
        state.withLock { state in
            state.followers[ObjectIdentifier(follower)] = nil
            if state.followers.isEmpty { state.shown = nil }
        }
    }

    /// Shows bytes once, also those that come again after the log did not take them.
    ///
    /// - Parameter received: bytes of each source that came before these.
    func send(_ bytes: [UInt8], from source: StandardStream, after received: OutputOffsets) {
        let (new, followers) = state.withLock { state -> (Int, [OutputFollower]) in
            guard !state.followers.isEmpty else { return (0, []) }
            var shown = state.shown ?? received
            let end = received[source] + UInt64(bytes.count)
            let new = end > shown[source] ? Int(min(end - shown[source], UInt64(bytes.count))) : 0
            shown[source] = max(shown[source], end)
            state.shown = shown
            return (new, Array(state.followers.values))
        }
        guard new > 0 else { return }
        let part = new == bytes.count ? bytes : Array(bytes.suffix(new))
        for follower in followers { follower.offer(part, from: source) }
    }

    public func finish(_ source: StandardStream) {
        let followers = state.withLock { state in
            state.ended.insert(source)
            return Array(state.followers.values)
        }
        for follower in followers { follower.finish(source) }
    }
}

/// One of them. One task reads each source.
public final class OutputFollower: Sendable {
    private struct Source {
        var waiting: Deque<[UInt8]> = []
        var bytes = 0
        /// Bytes that there was no room for.
        var lost = 0
        var ended = false
        var reader: CheckedContinuation<[UInt8]?, Never>?

        /// The last piece grows where it can: tiny ones cost what their bytes cost.
        mutating func append(_ more: [UInt8]) {
            bytes += more.count
            if let last = waiting.indices.last, waiting[last].count + more.count <= OutputFollower.pieceLimit {
                waiting[last] += more
            } else {
                waiting.append(more)
            }
        }
    }

    /// Bytes of each source that may wait.
    public static let limit = 256 << 10
    fileprivate static let pieceLimit = 64 << 10

    private let stdout = Mutex(Source())
    private let stderr = Mutex(Source())
    private let left: @Sendable (OutputFollower) -> Void

    init(left: @escaping @Sendable (OutputFollower) -> Void) { self.left = left }

    /// Waits for bytes of the source.
    ///
    /// - Returns: nil at its end, and when the caller is cancelled. In the place of lost bytes a line says how many they were.
    public func read(_ source: StandardStream) async -> [UInt8]? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let (isNow, bytes) = with(source) { state -> (Bool, [UInt8]?) in
                    if let bytes = state.waiting.popFirst() {
                        state.bytes -= bytes.count
                        return (true, bytes)
                    }
                    if state.lost > 0 { return (true, Self.notice(&state)) }
                    if state.ended || Task.isCancelled { return (true, nil) }
                    state.reader = continuation
                    return (false, nil)
                }
                if isNow { continuation.resume(returning: bytes) }
            }
        } onCancel: {
            take(source)?.resume(returning: nil)
        }
    }

    /// Sees nothing from now on.
    public func leave() {
        left(self)
        for source in StandardStream.allCases { finish(source) }
    }

    func offer(_ bytes: [UInt8], from source: StandardStream) {
        let reader = with(source) { state -> CheckedContinuation<[UInt8]?, Never>? in
            guard !state.ended else { return nil }
            if let reader = state.reader {
                state.reader = nil
                return reader
            }
            // What follows lost bytes waits until the reader has been told.
            guard state.lost == 0, state.bytes + bytes.count <= Self.limit else {
                state.lost += bytes.count
                return nil
            }
            state.append(bytes)
            return nil
        }
        reader?.resume(returning: bytes)
    }

    func finish(_ source: StandardStream) {
        let reader = with(source) { state in
            state.ended = true
            defer { state.reader = nil }
            return state.reader
        }
        reader?.resume(returning: nil)
    }

    private func take(_ source: StandardStream) -> CheckedContinuation<[UInt8]?, Never>? {
        with(source) { state in
            defer { state.reader = nil }
            return state.reader
        }
    }

    private func with<Value>(_ source: StandardStream, _ body: (inout sending Source) -> sending Value) -> sending Value {
        switch source {
        case .stdout: stdout.withLock(body)
        case .stderr: stderr.withLock(body)
        }
    }

    private static func notice(_ state: inout Source) -> [UInt8] {
        defer { state.lost = 0 }
        return Array("\r\n[swiftlet: \(state.lost) bytes of output were lost: this client reads too slowly]\r\n".utf8)
    }
}

/// A log's sink that shows followers what it takes, also what the log's disk has no room for yet.
struct FollowedSink: OutputSink {
    let log: any OutputSink
    let followers: OutputFollowers

    func received() async -> OutputOffsets { await log.received() }

    func take(_ bytes: [UInt8], from source: StandardStream) async throws -> OutputOffsets {
        if !followers.isEmpty { followers.send(bytes, from: source, after: await log.received()) }
        return try await log.take(bytes, from: source)
    }

    func flush() async throws -> OutputOffsets { try await log.flush() }

    func writePart(of source: StandardStream) async throws -> OutputOffsets { try await log.writePart(of: source) }

    func lose(_ count: UInt64, of source: StandardStream) async throws -> OutputOffsets { try await log.lose(count, of: source) }

    func finish(_ source: StandardStream) async throws -> OutputOffsets {
        followers.finish(source)
        return try await log.finish(source)
    }
}

extension OutputOffsets {
    fileprivate subscript(_ source: StandardStream) -> UInt64 {
        get {
            switch source {
            case .stdout: stdout
            case .stderr: stderr
            }
        }
        set {
            switch source {
            case .stdout: stdout = newValue
            case .stderr: stderr = newValue
            }
        }
    }
}
