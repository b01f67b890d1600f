import Concurrency
import Errors
import Foundation
import Glibc
import Linux
import Logging
import Runtime
import State
import Synchronization

/// A pod on the node: its namespaces, and containers that an OCI runtime has made.
final class HostSandbox: LogWritingSandbox {
    /// A container, and what only this daemon holds of it.
    struct Entry: Sendable {
        var record: HostRecord
    }

    let context: SandboxContext
    let names: HostNames
    let network: SandboxNetwork
    let handler: HostHandler
    /// Of the PID namespace that its containers share; nil where they share none.
    let pause: PauseDocument?
    private let entries: Mutex<[String: Entry]>
    /// Writes of records: an older one never follows a newer one.
    private let writes = SerialQueue()
    /// For port-forwards, from the first one on.
    let sockets = Mutex<PodSockets?>(nil)
    let rotating = Mutex<Task<Void, Never>?>(nil)
    private let closed = AsyncStream<Never>.makeStream()
    private let haltStream = AsyncStream<SandboxHalt?>.makeStream()

    init(
        _ context: SandboxContext, _ names: HostNames, _ network: SandboxNetwork, _ handler: HostHandler, pause: PauseDocument?,
        _ records: [HostRecord]
    ) {
        (self.context, self.names, self.network, self.handler, self.pause) = (context, names, network, handler, pause)
        entries = Mutex(Dictionary(records.map { ($0.container, Entry(record: $0)) }) { first, _ in first })
    }

    var logger: Logger { handler.logger }

    var details: [String: JSONValue] {
        var details: [String: JSONValue] = [
            "handler": .string(handler.name), "runtime": .string(handler.runtime.path), "directory": .string(names.runDirectory),
        ]
        if let path = context.network.namespacePath { details["networkNamespace"] = .string(path) }
        if let process = pause?.process { details["pause"] = .number(Double(process.pid)) }
        return details
    }

    func halts() -> AsyncStream<SandboxHalt?> { haltStream.stream }

    /// Of its namespaces that of processes alone can be lost: with its first one.
    func lost() async -> SandboxLoss {
        let (closing, process) = (closed.stream, pause?.process)
        return await withTaskGroup(of: SandboxLoss?.self) { group in
            group.addTask {
                for await _ in closing {}
                return SandboxLoss("the sandbox was closed")
            }
            if let process {
                group.addTask {
                    guard await process.hasEnded() else { return nil }
                    return SandboxLoss("process \(process.pid), the first of the PID namespace that its containers share, has ended")
                }
            }
            var loss: SandboxLoss?
            while loss == nil, let next = await group.next() { loss = next }
            group.cancelAll()
            return loss ?? SandboxLoss("the sandbox was closed")
        }
    }

    func fit(_ demand: PodDemand) async throws {}

    func requestShutdown() async {}

    func close() {
        haltStream.continuation.finish()
        closed.continuation.finish()
        sockets.withLock { $0 = nil }
        rotating.withLock { $0 }?.cancel()
    }

    // MARK: Records

    func record(_ id: String) throws -> HostRecord {
        guard let entry = entries.withLock({ $0[id] }) else { throw SwiftletError(.notFound, "container \(id)") }
        return entry.record
    }

    var records: [HostRecord] { entries.withLock { $0.values.map(\.record) } }

    /// Changes the container's record, on disk first.
    @discardableResult
    func change(_ id: String, _ change: @escaping @Sendable (inout HostRecord) -> Void) async throws -> HostRecord {
        let path = names.bundle(id).record
        return try await writes.run { [self] in
            var changed = try record(id)
            change(&changed)
            let written = changed
            try await OwnThread.run { try written.write(path) }
            entries.withLock { $0[id]?.record = written }
            return written
        }
    }

    func add(_ record: HostRecord) async throws {
        let path = names.bundle(record.container).record
        try await OwnThread.run { try record.write(path) }
        entries.withLock { $0[record.container] = Entry(record: record) }
    }

    // MARK: Life

    func containerStates() async throws -> [String: GuestContainerState] {
        entries.withLock { $0.mapValues { $0.record.phase == .created ? .created : .started } }
    }

    func startContainer(_ id: String, ledger: Ledger) async throws {
        let usesSystemd = handler.configuration.usesSystemd
        // A create that does not come to its end is found by its groups alone.
        let (planned, monitorCgroup) = try await OwnThread.run { [context] in
            let cgroups = try Cgroups.detect()
            return (
                try ContainerCgroup.planned(id, below: context.spec.cgroupParent, usesSystemd: usesSystemd, on: cgroups),
                try ProcessCgroup.serving(context.spec, "conmon-\(id.prefix(13))", usesSystemd: usesSystemd, on: cgroups)
            )
        }
        let record = try await change(id) { ($0.phase, $0.cgroup, $0.monitorCgroup) = (.starting, planned, monitorCgroup) }
        let (runtime, configuration, bundle) = (handler.runtime, handler.configuration, names.bundle(id))
        let conmon = Conmon(
            path: configuration.conmon, runtime: runtime, usesSystemd: configuration.usesSystemd, container: id, bundle: bundle,
            logPath: record.logPath, terminal: record.terminal, stdin: record.stdin, stdinOnce: record.stdinOnce)
        var document = handler.document(of: record, bundle)
        let process = try await ledger.acquire(.hostContainer, id, document) {
            try await OwnThread.run {
                try monitorCgroup.create()
                return try conmon.create(within: configuration.runtimeDeadline) { try monitorCgroup.place($0) }
            }
        }
        let (monitor, cgroup) = await OwnThread.answer {
            let pid = KernelFile.text(bundle.monitorFile, limit: 32).flatMap { Int32($0.filter { !$0.isWhitespace }) }
            let found = (try? Cgroups.detect()).map { ContainerCgroup(of: process, container: id, on: $0).directories } ?? []
            return (pid.flatMap(ProcessIdentity.of), found.isEmpty ? planned : found)
        }
        (document.process, document.monitor, document.cgroup) = (process, monitor, cgroup)
        try await ledger.note(.hostContainer, id, document)
        try await change(id) { ($0.process, $0.monitor, $0.cgroup) = (process, monitor, cgroup) }
        // They were joined by number, which may have been another process's by then.
        guard await OwnThread.answer({ record.targets.allSatisfy(\.isAlive) }) else {
            throw SwiftletError(.failedPrecondition, "namespace_options.target_id: the container has ended whose namespace is joined")
        }
        try await runtime.run(["start", id])
        try await change(id) { $0.phase = .started }
    }

    /// Forgets a start that an earlier daemon did not finish: the container can be started again.
    func undoStart(_ record: HostRecord) async throws {
        let id = record.container
        try await ContainerEnd.end(id, handler.document(of: record, names.bundle(id)))
        let exit = names.bundle(id).exitFile(id)
        try await OwnThread.run {
            guard unlink(exit) == 0 || errno == ENOENT else { throw SwiftletError.system("remove \(exit)") }
        }
        try await change(id) {
            $0.phase = .created
            ($0.process, $0.monitor, $0.cgroup, $0.monitorCgroup) = (nil, nil, [], nil)
        }
    }

    /// For SIGKILL of what a container's first process has left.
    private static let endLimit = Duration.seconds(10)

    func waitForExit(_ id: String) async throws -> ProcessExit {
        let record = try record(id)
        if let end = record.end { return end.exit }
        guard let process = record.process else { throw SwiftletError(.failedPrecondition, "container \(id) was not started") }
        let bundle = names.bundle(id)
        guard await process.hasEnded() else { throw SwiftletError(.cancelled, "the sandbox was closed") }
        // In a PID namespace of the node's, or another's, its other processes live on, and conmon reads as long as one of them writes.
        let cgroup = ContainerCgroup(directories: record.cgroup)
        await OwnThread.answer { try? cgroup.end(within: Self.endLimit) }
        // conmon ends when it has written the last lines and the exit code.
        if let monitor = record.monitor {
            guard await monitor.hasEnded() else { throw SwiftletError(.cancelled, "the sandbox was closed") }
            monitor.reap()
        }
        let noted = await OwnThread.answer { HostRecord.End.read(bundle, container: id) }
        if noted == nil {
            logger.warning("conmon has ended before its container, whose exit code and output are lost", metadata: ["container": "\(id)"])
        }
        let end =
            noted
            ?? HostRecord.End(
                code: 255, outOfMemory: false, at: WallClock.now(),
                message: "its exit code is not known: conmon, which notes it, has ended before the container")
        _ = try? await change(id) { $0.end = end }
        return end.exit
    }

    func signal(_ id: String, _ signal: Int32, all: Bool) async throws {
        let record = try record(id)
        guard record.phase != .created, record.end == nil, let process = record.process else { return }
        let cgroup = ContainerCgroup(directories: record.cgroup)
        try await OwnThread.run {
            try process.signal(signal)
            // A container in a PID namespace of the node's, or another's, does not end with its first process.
            if all { cgroup.signal(signal) }
        }
    }

    func deleteContainer(_ id: String) async throws {
        guard let record = try? record(id) else { return }
        if record.phase != .created { try await ContainerEnd.end(id, handler.document(of: record, names.bundle(id))) }
        _ = entries.withLock { $0.removeValue(forKey: id) }
        // A daemon that starts again must not take one that was given up for one that runs.
        let path = names.bundle(id).record
        try await OwnThread.run {
            guard unlink(path) == 0 || errno == ENOENT else { throw SwiftletError.system("remove \(path)") }
        }
    }

    // MARK: Streams

    func output(of id: String) -> OutputEndpoint {
        let bundle = names.bundle(id)
        let hasInput = (try? record(id))?.stdin ?? false
        return .conmon(ConmonEndpoint(socket: bundle.attachSocket, control: bundle.control, hasInput: hasInput))
    }

    private static func writes(_ monitor: ProcessIdentity, to path: String) -> Bool {
        var (file, opened) = (stat(), stat())
        guard lstat(path, &file) == 0 else { return false }
        let directory = "/proc/\(monitor.pid)/fd"
        return ((try? KernelFile.names(in: directory)) ?? []).contains { name in
            stat("\(directory)/\(name)", &opened) == 0 && opened.st_dev == file.st_dev && opened.st_ino == file.st_ino
        }
    }

    /// conmon's order to open its log anew (ctrl.c: REOPEN_LOGS_EVENT).
    private static let reopenOrder = "2 0 0\n"

    func reopenLog(of id: String) async throws {
        let record = try record(id)
        guard !record.logPath.isEmpty else { return }
        guard let monitor = record.monitor, monitor.isAlive else {
            throw SwiftletError(.failedPrecondition, "container \(id): conmon, which writes its log, has ended")
        }
        let control = names.bundle(id).control
        try await OwnThread.run {
            // conmon would put another file in its place.
            guard !Self.writes(monitor, to: record.logPath) else { return }
            let pipe = open(control, O_WRONLY | O_NONBLOCK | O_CLOEXEC)
            guard pipe >= 0 else { throw SwiftletError.system("open \(control)") }
            defer { Glibc.close(pipe) }
            let order = Array(Self.reopenOrder.utf8)
            guard Glibc.write(pipe, order, order.count) == order.count else { throw SwiftletError.system("write to \(control)") }
            // conmon answers nothing; the file that it makes says that it has gone on.
            let deadline = ContinuousClock.now + .seconds(5)
            while access(record.logPath, F_OK) != 0 {
                guard ContinuousClock.now < deadline else {
                    throw SwiftletError(.failedPrecondition, "conmon does not open log \(quoted(record.logPath)) anew")
                }
                usleep(2_000)
            }
        }
    }
}
