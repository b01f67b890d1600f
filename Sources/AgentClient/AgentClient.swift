import AgentProtocol
import Errors
import FoundationEssentials
import Linux
import Runtime
import SwiftProtobuf
import Synchronization
import TTRPC

/// The host's end of one guest's agent: its calls on one connection, its streams each on one of their own.
///
/// The guest is not trusted: what it sends is bounded and checked, and no call but ``wait(containerID:processID:)`` waits
/// without a limit. A client whose connection is lost stays so; make a new one.
public final class AgentClient: Sendable {
    /// All clients share one thread.
    static let loop = Result { try EventLoop(name: "agents") }

    /// How long an attempt to reach the agent may take before the next one.
    private static let attempt = Duration.seconds(1)
    /// How long a connected agent may take for its first answer; an emulated guest that just boots is slow.
    private static let firstAnswer = Duration.seconds(10)
    public static let pause = Duration.milliseconds(20)

    /// The container that processes of a guest which is not the agent's own run in: the guest itself.
    public static let guestContainer = AgentContract.guestContainer

    public let address: VsockAddress
    /// What the agent said of itself when the connection was made.
    public let info: AgentGetInfoResponse

    private struct WaitKey: Hashable {
        var container: String
        var process: String
    }
    private typealias WaitListeners = [UInt64: CheckedContinuation<AgentWaitResponse, any Error>]

    private let connection: TTRPCClient
    private let mark: CrashMark
    private let loop: EventLoop
    /// Waits in flight. The guest answers each once; callers of the same one share it, so that cancelling and waiting
    /// again does not pile up calls in the guest.
    private let waits = Mutex<[WaitKey: WaitListeners]>([:])
    private let nextListener = Atomic<UInt64>(0)

    private init(address: VsockAddress, connection: TTRPCClient, info: AgentGetInfoResponse, mark: CrashMark, loop: EventLoop) {
        self.address = address
        self.connection = connection
        self.mark = mark
        self.info = info
        self.loop = loop
    }

    deinit { connection.close() }

    /// Connects and asks GetInfo, again and again until the agent answers.
    ///
    /// - Parameters:
    ///   - mark: held while what the guest sends is worked on.
    ///   - pause: from one attempt to the next.
    /// - Throws: `.deadlineExceeded` with the last failure as its cause; `.cancelled`.
    public static func connect(
        to address: VsockAddress, deadline: ContinuousClock.Instant, mark: CrashMark = CrashMark(), pause: Duration = pause
    ) async throws -> AgentClient {
        let loop = try loop.get()
        while true {
            do {
                return try await attempt(address, deadline: deadline, mark: mark, loop: loop)
            } catch {
                if Task.isCancelled { throw SwiftletError(.cancelled, "connecting to the guest's agent: cancelled") }
                let next = ContinuousClock.now + pause
                guard next < deadline else {
                    throw SwiftletError(.deadlineExceeded, "the guest's agent did not answer in time", cause: error)
                }
                try? await Task.sleep(until: next, clock: .continuous)
            }
        }
    }

    private static func attempt(
        _ address: VsockAddress, deadline: ContinuousClock.Instant, mark: CrashMark, loop: EventLoop
    ) async throws -> AgentClient {
        let descriptor = try await VsockDial.connect(
            address, port: AgentContract.controlPort, deadline: min(deadline, .now + attempt), loop: loop)
        let connection = try TTRPCClient(
            descriptor: descriptor, service: AgentContract.service, server: "the guest's agent", loop: loop, mark: mark)
        do {
            let info = try await call(connection, .getInfo, .init(), timeout: min(firstAnswer, deadline - .now), mark: mark)
            return AgentClient(address: address, connection: connection, info: info, mark: mark, loop: loop)
        } catch {
            connection.close()
            throw error
        }
    }

    /// Calls a method of the agent.
    ///
    /// - Parameter limit: bytes that the answer may have; a decoded message takes many times as much. A frame's own limit is 4 MiB.
    /// - Throws: the guest's code and message; `.deadlineExceeded` after `timeout`; `.unavailable` when the connection is
    ///   lost; `.cancelled`. After the last three the call may still happen in the guest. `.resourceExhausted` for an answer
    ///   beyond `limit`.
    public func call<Request: Message, Response: Message>(
        _ method: AgentMethod<Request, Response>, _ request: Request, timeout: Duration, limit: Int = 1 << 20
    ) async throws -> Response {
        try await Self.call(connection, method, request, timeout: timeout, limit: limit, mark: mark)
    }

    private static func call<Request: Message, Response: Message>(
        _ connection: TTRPCClient, _ method: AgentMethod<Request, Response>, _ request: Request, timeout: Duration,
        limit: Int = 1 << 20, mark: CrashMark
    ) async throws -> Response {
        let payload: [UInt8] = try request.serializedBytes()
        let answer = try await connection.call(method.name, payload, timeout: timeout)
        guard answer.count <= limit else {
            throw SwiftletError(.resourceExhausted, "the guest's answer to \(method.name) has \(answer.count) bytes, more than \(limit)")
        }
        return try mark.during { try decode(answer, method) }
    }

    /// Waits for a process to exit, for as long as it takes.
    ///
    /// - Parameter processID: empty for the container's first process.
    /// - Throws: `.notFound` for an unknown or deleted process; `.unavailable` when the connection is lost; `.cancelled`.
    public func wait(containerID: String, processID: String) async throws -> AgentWaitResponse {
        let key = WaitKey(container: containerID, process: processID)
        let listener = nextListener.wrappingAdd(1, ordering: .relaxed).newValue
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let isFirst = waits.withLock { waits in
                    defer { waits[key, default: [:]][listener] = continuation }
                    return waits[key] == nil
                }
                if isFirst { beginWait(key) }
                if Task.isCancelled { abandonWait(key, listener) }
            }
        } onCancel: {
            abandonWait(key, listener)
        }
    }

    private func beginWait(_ key: WaitKey) {
        var request = AgentWaitRequest()
        request.containerID = key.container
        request.processID = key.process
        let payload: [UInt8] = (try? request.serializedBytes()) ?? []
        connection.begin(AgentMethodName.wait.rawValue, payload, timeout: nil) { [weak self] answer in
            guard let self else { return }
            let result = Result<AgentWaitResponse, any Error> { try Self.decode(answer.get(), .wait) }
            let listeners = waits.withLock { $0.removeValue(forKey: key) } ?? [:]
            for continuation in listeners.values { continuation.resume(with: result) }
        }
    }

    private func abandonWait(_ key: WaitKey, _ listener: UInt64) {
        let continuation = waits.withLock { $0[key]?.removeValue(forKey: listener) }
        continuation?.resume(throwing: SwiftletError(.cancelled, "waiting for a process: cancelled"))
    }

    /// Whether the connection is lost or closed.
    public var isClosed: Bool { connection.isClosed }

    /// Returns when the connection is lost or closed, or when the caller's task is cancelled.
    public var closed: Void {
        get async {
            let connection = connection
            let listener = Mutex<(id: UInt64?, cancelled: Bool)>((nil, false))
            await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let id = connection.onClose { continuation.resume() }
                    let cancelled = listener.withLock { listener in
                        listener.id = id
                        return listener.cancelled
                    }
                    if cancelled, let id { connection.removeCloseListener(id)?() }
                }
            } onCancel: {
                let id = listener.withLock { listener in
                    listener.cancelled = true
                    return listener.id
                }
                if let id { connection.removeCloseListener(id)?() }
            }
        }
    }

    /// Connects to the output that an unused token stands for.
    ///
    /// - Parameters:
    ///   - stdoutOffset: what OpenStream was given; where the chunks' offsets begin.
    ///   - stderrOffset: the same for stderr.
    /// - Throws: `.permissionDenied` for a token that the guest does not know.
    public func openOutput(
        token: [UInt8], timeout: Duration = .seconds(10), stdoutOffset: UInt64 = 0, stderrOffset: UInt64 = 0
    ) async throws -> AgentOutputStream {
        let descriptor = try await openStream(token, timeout)
        return try AgentOutputStream(descriptor: descriptor, stdout: stdoutOffset, stderr: stderrOffset, mark: mark, loop: loop)
    }

    /// Connects to the standard input that an unused token stands for.
    ///
    /// - Throws: `.permissionDenied` for a token that the guest does not know.
    public func openInput(token: [UInt8], timeout: Duration = .seconds(10)) async throws -> AgentInputStream {
        try AgentInputStream(descriptor: await openStream(token, timeout), loop: loop)
    }

    /// Connects to a TCP port of the pod, from inside of its guest.
    ///
    /// - Throws: `.unavailable` with the reason when nobody answers there.
    public func openPort(_ port: UInt16, timeout: Duration = .seconds(15)) async throws -> AgentPortStream {
        let token = Self.token()
        let request = AgentOpenPortRequest.with {
            $0.port = UInt32(port)
            $0.token = Data(token)
        }
        _ = try await call(.openPort, request, timeout: timeout)
        return try AgentPortStream(descriptor: await openStream(token, timeout), mark: mark, loop: loop)
    }

    private func openStream(_ token: [UInt8], _ timeout: Duration) async throws -> Int32 {
        guard token.count == AgentContract.tokenLength else {
            throw SwiftletError(.invalidArgument, "stream token of \(token.count) bytes, not \(AgentContract.tokenLength)")
        }
        return try await VsockDial.connect(
            address, port: AgentContract.streamPort, token: token, deadline: .now + timeout, loop: loop)
    }

    /// Ends the connection; calls that wait fail with `.unavailable`. Open streams go on.
    public func close() { connection.close() }

    private static func decode<Request, Response: Message>(
        _ bytes: [UInt8], _ method: AgentMethod<Request, Response>
    ) throws -> Response {
        do {
            var options = BinaryDecodingOptions()
            // What this version does not know is only a place for a guest to have its bytes kept.
            options.discardUnknownFields = true
            return try Response(serializedBytes: bytes, options: options)
        } catch {
            throw SwiftletError(.dataLoss, "\(method.name): the guest's answer is malformed", cause: error)
        }
    }
}
