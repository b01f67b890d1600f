import Concurrency
import Errors
import Runtime
import Synchronization

/// A log that streamd has open, as far as swiftletd knows it.
struct FollowedLog: Sendable {
    var target: LogTarget
    /// Has streamd follow it until it is drained, or closed here.
    var following: Task<Void, Never>?
    /// Nothing waits for its budget any more.
    var isBudgetLifted = false
    /// Its container has ended, and streamd must be told, since its source has no end.
    var hasEnded = false
    var endpoint: OutputEndpoint?
}

/// The logs that are open.
struct KnownLogs: Sendable {
    private var open: [String: FollowedLog] = [:]
    /// Containers of the process before whose logs may be open still; nil before they are known.
    private var inherited: Set<String>?
    private var hasEnded = false

    subscript(_ container: String) -> FollowedLog? {
        get { open[container] }
        set { if !hasEnded || newValue == nil { open[container] = newValue } }
    }

    mutating func inherit(_ containers: Set<String>) { inherited = containers }

    mutating func remove(_ container: String) -> FollowedLog? {
        inherited?.remove(container)
        return open.removeValue(forKey: container)
    }

    mutating func end() -> [FollowedLog] {
        hasEnded = true
        defer { open = [:] }
        return Array(open.values)
    }

    /// All logs that streamd may have open; nil before they are known.
    var all: [String]? { inherited.map { $0.union(open.keys).sorted() } }
}

/// The containers' logs, which streamd writes.
extension StreamDaemon: ContainerOutput {
    /// How long a disk may take to open a file, beside what streamd itself waits.
    private static let patience = Duration.seconds(25)
    private static let shortestPause = Duration.milliseconds(50)
    private static let longestPause = Duration.seconds(2)

    public func open(_ log: LogTarget) async throws {
        let isNew = logs.withLock { logs in
            guard logs[log.container] == nil else { return false }
            logs[log.container] = FollowedLog(target: log)
            return true
        }
        do {
            _ = try await openAtStreamd(log)
        } catch {
            if isNew { logs.withLock { $0[log.container] = nil } }
            throw error
        }
    }

    /// Not cancelled with whoever asks: nothing may be under way when the log is closed, or the close would come first.
    ///
    /// - Returns: the connection to the streamd that has it open.
    private func openAtStreamd(_ log: LogTarget) async throws -> StreamControlClient {
        let container = log.container
        return try await openings.run(container) { [self] in
            guard logs.withLock({ $0[container] }) != nil else {
                throw SwiftletError(.aborted, "container \(container): its log was closed while it was opened")
            }
            return try await connected { client in
                // An older one would write to it.
                if log.isWritten { try client.require(StreamContract.written, "logs of pods on the node are not collected") }
                _ = try await client.call(.openLog, StreamOpenLogRequest(log), timeout: Self.patience)
                return client
            }
        }
    }

    public func follow(_ container: String, from endpoint: OutputEndpoint) {
        logs.withLock { logs in
            guard let log = logs[container], log.following == nil else { return }
            logs[container]?.endpoint = endpoint
            logs[container]?.following = Task { await self.keepFollowed(log.target, from: endpoint) }
        }
    }

    public func collect(_ log: LogTarget) {
        guard collectsLines else { return }
        var log = log
        (log.isWritten, log.budget, log.rotation) = (true, nil, nil)
        let target = log
        logs.withLock { logs in
            guard logs[target.container] == nil else { return }
            logs[target.container] = FollowedLog(target: target)
            logs[target.container]?.following = Task { await self.keepFollowed(target, from: nil) }
        }
    }

    /// Opens the log and has it followed, again and again, until both sources have ended: a streamd that was started anew, or refused it,
    /// knows nothing of it.
    ///
    /// - Parameter endpoint: nil for a log that another process writes.
    private func keepFollowed(_ log: LogTarget, from endpoint: OutputEndpoint?) async {
        var pause = Self.shortestPause
        var told: String?
        while !Task.isCancelled {
            let began = ContinuousClock.now
            do {
                let client = try await openAtStreamd(log)
                if case .console = endpoint { try client.require(StreamContract.console, "consoles are not read") }
                _ = try await client.call(.followLog, StreamFollowLogRequest(log.container, endpoint), timeout: Self.patience)
                _ = try await client.call(.waitForLog, waiting(for: log.container), timeout: nil)
                return
            } catch {
                guard !Task.isCancelled else { return }
                let reason = "\(error)"
                if told != reason {
                    logger.warning("a log stands still", metadata: ["container": "\(log.container)", "error": "\(reason)"])
                }
                told = reason
                if .now - began > Self.longestPause { pause = Self.shortestPause }
                try? await Task.sleep(for: pause)
                pause = min(pause * 2, Self.longestPause)
            }
        }
    }

    public func reopen(_ container: String) async throws {
        guard let log = logs.withLock({ $0[container] }) else {
            throw SwiftletError(.failedPrecondition, "container \(container): its log is not open; try again")
        }
        // One that was started anew may not have it open yet.
        _ = try await openAtStreamd(log.target)
        _ = try await call(.reopenLog, .with { $0.containerID = container }, timeout: Self.patience)
    }

    public func drained(_ container: String) async {
        let log = logs.withLock { logs in
            if case .console = logs[container]?.endpoint { logs[container]?.hasEnded = true }
            return logs[container]
        }
        // Closing it has its last lines read: an end does not wait for collectors.
        guard let log, let following = log.following, !log.target.isWritten else { return }
        if log.hasEnded { tell(container) }
        await following.value
    }

    public func liftBudget(of container: String) async {
        let log = logs.withLock { logs in
            logs[container]?.isBudgetLifted = true
            return logs[container]
        }
        if let log, log.target.budget != nil { tell(container) }
    }

    /// Says what is known of the log by now. A streamd that is not there is told by the next call of who follows the log; the one that
    /// waits already has not said so.
    private func tell(_ container: String) {
        guard let client = live else { return }
        let request = waiting(for: container)
        Task { _ = try? await client.call(.waitForLog, request, timeout: nil) }
    }

    private func waiting(for container: String) -> StreamWaitForLogRequest {
        .with {
            $0.containerID = container
            let log = logs.withLock { $0[container] }
            ($0.liftBudget, $0.hasEnded_p) = (log?.isBudgetLifted ?? false, log?.hasEnded ?? false)
        }
    }

    public func close(_ container: String) async { await end(container, forget: false) }

    public func remove(_ container: String) async { await end(container, forget: true) }

    /// A streamd that cannot be told closes it when it is connected to again, or has it closed because it has ended.
    private func end(_ container: String, forget: Bool) async {
        logs.withLock { $0.remove(container) }?.following?.cancel()
        guard let client = live else { return }
        let request = StreamCloseLogRequest.with { ($0.containerID, $0.forget) = (container, forget) }
        // Also for a caller that is cancelled: nobody else closes it.
        let closing = Task {
            // One that is under way, which would come after the close. One whose disk hangs is there by then, and is closed when it ends.
            try? await withDeadline(.seconds(5), "open the log") { [openings] in
                _ = try? await openings.run(container) { throw CancellationError() }
            }
            do {
                _ = try await client.call(.closeLog, request, timeout: .seconds(5))
            } catch {
                client.close()
            }
        }
        await closing.value
    }

    public func keep(only containers: Set<String>) async {
        logs.withLock { $0.inherit(containers) }
        let request = StreamKeepLogsRequest.with { ($0.containerIds, $0.forget) = (containers.sorted(), true) }
        do {
            // A start does not wait for a streamd that hangs.
            try await withDeadline(.seconds(2), "close logs") { _ = try await self.call(.keepLogs, request, timeout: Self.patience) }
        } catch {
            logger.warning("logs of containers that are gone are not closed yet", metadata: ["error": "\(error)"])
            // The next connection begins with it.
            if let live { live.close() } else { reconnect() }
        }
    }

    /// Tells a streamd that is connected to again which logs are open still.
    func closeUnknownLogs(_ client: StreamControlClient) async throws {
        guard let known = logs.withLock({ $0.all }) else { return }
        _ = try await client.call(.keepLogs, .with { $0.containerIds = known }, timeout: Self.patience)
    }
}

extension StreamOpenLogRequest {
    init(_ log: LogTarget) {
        self.init()
        (containerID, directory, path) = (log.container, log.directory, log.path)
        if let budget = log.budget {
            (bytesPerSecond, operationsPerSecond) = (budget.bytesPerSecond, budget.operationsPerSecond)
            dropsExcess = budget.excess == .drop
        }
        if let rotation = log.rotation { (maxSize, maxFiles) = (rotation.maxSize, UInt32(clamping: rotation.maxFiles)) }
        if let names = log.names { self.names = StreamContainerNames(names) }
        written = log.isWritten
    }

    public var target: LogTarget {
        let budget = LogBudget(
            bytesPerSecond: bytesPerSecond, operationsPerSecond: operationsPerSecond, excess: dropsExcess ? .drop : .wait)
        var target = LogTarget(
            container: containerID, directory: directory, path: path, budget: budget.isUnlimited ? nil : budget,
            rotation: maxSize > 0 ? LogRotation(maxSize: maxSize, maxFiles: Int(maxFiles)) : nil,
            names: hasNames ? names.names : nil)
        target.isWritten = written
        return target
    }
}

extension StreamContainerNames {
    init(_ names: ContainerNames) {
        self.init()
        (namespace, pod, podUid) = (names.namespace, names.pod, names.podUID)
        (container, attempt) = (names.container, names.attempt)
    }

    var names: ContainerNames {
        ContainerNames(namespace: namespace, pod: pod, podUID: podUid, container: container, attempt: attempt)
    }
}

extension StreamFollowLogRequest {
    init(_ container: String, _ endpoint: OutputEndpoint?) {
        self.init()
        switch endpoint {
        case .agent(let address, _): guest = StreamGuest(address, sandbox: "")
        // What conmon writes itself is read where it is.
        case .conmon, nil: break
        case .console(let log, let socket): console = StreamConsole(log: log, socket: socket, sandbox: "")
        }
        containerID = container
    }

    /// - Throws: `.invalidArgument` without one.
    public func endpoint() throws -> OutputEndpoint {
        guard hasConsole else { return .agent(try guest.vsockAddress(), container: containerID) }
        return try console.endpoint()
    }
}
