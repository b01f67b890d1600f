import Errors
import Foundation
import GRDB
import Images
import Linux
import Logging
import Logs
import PodNetwork
import State
import Support
import Synchronization

@testable import MicroVMRuntime
@testable import Pods
@testable import Runtime

extension AttachedNetwork {
    static let sample = AttachedNetwork(
        interfaceName: "eth0", mac: "0a:58:0a:58:00:05", mtu: 1500, addresses: ["10.88.0.5/16"], routes: [])
}

/// Where and how a `FakeHandler` misbehaves.
enum Injection: Sendable, Hashable, CaseIterable {
    case none
    case failNetwork
    case failMachine
    case failAgent
    case hangAgent
}

/// A handler without machines, and the node's network without plug-ins, for failure injection. It records what exists.
final class FakeHandler: RuntimeHandler, NodeNetwork {
    struct State {
        var existing: Set<String> = []
        var injection = Injection.none
        var failReleases: Set<ResourceKind> = []
        var hangReleases: Set<ResourceKind> = []
        /// Of these resources.
        var hangNames: Set<String> = []
        var hanging: Set<String> = []
        var released: [String] = []
        /// Releases that run now, by name, and names that were ever released by two at once.
        var releasing: Set<String> = []
        var releasedTwiceAtOnce: Set<String> = []
        /// Releases wait as long as it is set.
        var holdsReleases = false
        /// Each time the network was configured.
        var ranges: [[String]] = []
        var starts = 0
        /// Pods whose networks were asked for.
        var checked: [String] = []
        /// Sandboxes, in the order in which they were found again.
        var reattachments: [String] = []
        var held = false
        var machines: [String: FakeMachine] = [:]
    }

    let name = "fake"
    let state = Mutex(State())

    var existing: Set<String> { state.withLock { $0.existing } }
    var starts: Int { state.withLock { $0.starts } }
    func holdStarts() { state.withLock { $0.held = true } }
    func letStartsGo() { state.withLock { $0.held = false } }
    func inject(_ injection: Injection) { state.withLock { $0.injection = injection } }
    func machine(of id: String) -> FakeMachine? { state.withLock { $0.machines[id] } }

    func start(_ context: SandboxContext) async throws -> any Sandbox {
        let (id, ledger) = (context.id, context.ledger)
        let injection = state.withLock { state in
            state.starts += 1
            return state.injection
        }
        while state.withLock({ $0.held }) { await Task.yield() }
        _ = try await context.network.attached()
        try await acquire(.tap, "tap-\(id)", ledger)
        try await context.phase("booting")
        try await acquire(.machine, "vm-\(id)", ledger)
        if injection == .failMachine { throw SwiftletError(.internal, "boot the machine: injected") }
        if injection == .failAgent { throw SwiftletError(.deadlineExceeded, "boot the guest: injected") }
        if injection == .hangAgent { try await Task.sleep(for: .seconds(3600)) }
        let machine = FakeMachine()
        state.withLock { $0.machines[id] = machine }
        return machine
    }

    // MARK: The network

    func collectGarbage() {}

    func check(_ request: PodNetworkRequest) async throws {
        state.withLock { $0.checked.append(request.podID) }
    }

    func namespacePath(of podID: String) -> String { "netns-\(podID)" }

    func createNamespace(path: String) async throws {
        _ = state.withLock { $0.existing.insert(path) }
    }

    func attach(_ request: PodNetworkRequest) async throws -> AttachedNetwork {
        while state.withLock({ $0.held }) { await Task.yield() }
        try state.withLock { state in
            if state.injection == .failNetwork { throw SwiftletError(.unavailable, "injected") }
            state.existing.insert(request.podID)
        }
        return .sample
    }

    func join(
        tap: String, into namespacePath: String, with interface: AttachedInterface, annotations: [String: String]
    ) async throws {}

    func configure(ranges: [IPPrefix]) async throws {
        try state.withLock { state in
            if state.injection == .failNetwork { throw SwiftletError(.failedPrecondition, "CNI template: injected") }
            state.ranges.append(ranges.map(\.description))
        }
    }

    private func acquire(_ kind: ResourceKind, _ name: String, _ ledger: Ledger) async throws {
        try await ledger.acquire(kind, name) { _ = state.withLock { $0.existing.insert(name) } }
    }

    func reattach(_ context: SandboxContext) async throws -> any Sandbox {
        guard let machine = machine(of: context.id) else { throw SwiftletError(.notFound, "machine is gone") }
        state.withLock { $0.reattachments.append(context.id) }
        return machine
    }

    /// Kinds that it acquires.
    static let kinds: [ResourceKind] = [.networkNamespace, .networkAttachment, .tap, .machine, .shareMounts]

    var releasers: [ResourceReleaser] {
        Self.kinds.map { kind in
            ResourceReleaser(kind, scope: kind == .shareMounts ? .container : .sandbox) { try await self.release($0) }
        }
    }

    private func release(_ entry: LedgerEntry) async throws {
        let (fails, hangs) = state.withLock { state in
            let hangs = state.hangReleases.contains(entry.kind) || state.hangNames.contains(entry.name)
            if hangs { state.hanging.insert(entry.name) }
            return (state.failReleases.contains(entry.kind), hangs)
        }
        if hangs { try await Task.sleep(for: .seconds(3600)) }
        if fails { throw SwiftletError(.internal, "injected") }
        state.withLock { if !$0.releasing.insert(entry.name).inserted { $0.releasedTwiceAtOnce.insert(entry.name) } }
        while state.withLock({ $0.holdsReleases }) { await Task.yield() }
        state.withLock { state in
            state.releasing.remove(entry.name)
            state.existing.remove(entry.name)
            state.released.append(entry.kind.rawValue)
        }
    }

    var capabilities: HandlerCapabilities {
        var capabilities = HandlerCapabilities()
        capabilities.networkModes = [.pod, .node]
        capabilities.userNamespaces = true
        capabilities.devices = ["/dev/fuse"]
        return capabilities
    }
    func obstacle() async -> String? { nil }
    func leftovers(besides isKnown: @Sendable (_ pod: String) -> Bool) async throws -> [Leftover] { [] }
}

/// Output of containers that write nothing.
struct SilentOutput: OutputReader {
    func copy(from endpoint: OutputEndpoint, to sink: any OutputSink, until end: OutputEnd) async throws {}
}

/// A machine that never answers about containers; only its end can be injected.
final class FakeMachine: Sandbox {
    let details: [String: JSONValue] = [:]
    private let end = Mutex<SandboxLoss?>(nil)
    let updates = FakeUpdates()
    /// What it says of its use.
    let answer = FakeAnswer()
    let life = FakeLife()

    private let haltStreams = Mutex<[AsyncStream<SandboxHalt?>.Continuation]>([])

    func halts() -> AsyncStream<SandboxHalt?> {
        let (stream, continuation) = AsyncStream.makeStream(of: SandboxHalt?.self)
        haltStreams.withLock { $0.append(continuation) }
        return stream
    }

    func report(_ halt: SandboxHalt?) {
        for stream in haltStreams.withLock({ $0 }) { stream.yield(halt) }
    }

    func die(_ reason: String, outOfMemory: Bool = false) { end.withLock { $0 = SandboxLoss(reason, outOfMemory: outOfMemory) } }

    /// Of several daemons, each asks for itself.
    func lost() async -> SandboxLoss {
        while !Task.isCancelled {
            if let loss = end.withLock({ $0 }) { return loss }
            try? await Task.sleep(for: .milliseconds(2))
        }
        return SandboxLoss("cancelled")
    }

    func createContainer(_ id: String, _ plan: ContainerPlan, ledger: Ledger) async throws -> ContainerUser {
        await life.create(id)
        try await life.acquire(id, ledger)
        return ContainerUser(uid: 0, gid: 0, groups: [0])
    }
    func containerStates() async throws -> [String: GuestContainerState] {
        Dictionary(uniqueKeysWithValues: life.present.map { ($0, .created) })
    }
    func startContainer(_ id: String, ledger: Ledger) async throws { try life.start() }
    func waitForExit(_ id: String) async throws -> ProcessExit {
        try await life.exit()
    }
    func signal(_ id: String, _ signal: Int32, all: Bool) async throws { try life.hear() }
    func deleteContainer(_ id: String) async throws {
        try life.hear()
        life.deleted(id)
    }
    var ports: PortEndpoint { .agent(.unixProxy(path: "/none")) }
    func output(of id: String) -> OutputEndpoint { .agent(.unixProxy(path: "/none"), container: id) }
    func execEndpoint(of id: String, for streams: SessionStreams) async throws -> ExecEndpoint {
        life.runsWhole ? .execute : .streams(output(of: id))
    }
    /// Writes its own command.
    func execute(_ id: String, _ command: [String], timeout: Duration?, output: OutputAllowance) async throws -> ExecResult {
        let bytes = Array(command.joined(separator: " ").utf8)
        return ExecResult(stdout: Array(bytes.prefix(try output.take(bytes.count))), stderr: [], exitCode: 0)
    }
    func statistics(openFiles: Bool, containers: Int) async throws -> SandboxFigures { try await answer.value() }
    func updateContainer(_ id: String, from old: LinuxResources, to new: LinuxResources) async throws {
        try await updates.take(id, new.cgroupFiles(replacing: old))
    }
    func fit(_ demand: PodDemand) async throws { try await updates.fit(demand) }
    func requestShutdown() async {}
    private let closings = Mutex(0)
    var isClosed: Bool { closings.withLock { $0 > 0 } }
    func close() { closings.withLock { $0 += 1 } }
}

/// A guest's statistics, which can be held back.
final class FakeAnswer: Sendable {
    private let state = Mutex((stats: SandboxFigures(), held: false, asked: 0))

    var asked: Int { state.withLock { $0.asked } }
    func set(_ stats: SandboxFigures) { state.withLock { $0.stats = stats } }
    func hold(_ held: Bool) { state.withLock { $0.held = held } }

    func value() async throws -> SandboxFigures {
        state.withLock { $0.asked += 1 }
        while state.withLock({ $0.held }) { try await Task.sleep(for: .milliseconds(5)) }
        return state.withLock { $0.stats }
    }
}

/// A registry over a `FakeHandler` in a directory of its own.
struct FakeNode {
    let directory: String
    let handler: FakeHandler
    let database: StateDatabase
    let images: ImageStore
    let registry: PodRegistry
    let logger: Logger

    init(
        handler: FakeHandler = FakeHandler(), directory: String? = nil, release: Duration = .seconds(30),
        abandoned: Duration = .seconds(600), sessions: (any ContainerSessions)? = nil
    ) async throws {
        let directory = directory ?? NSTemporaryDirectory() + "swiftlet-pods-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        self.directory = directory
        self.handler = handler
        database = try StateDatabase(path: directory + "/state.sqlite")
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        self.logger = logger
        images = try await ImageStore(
            configuration: ImageStoreConfiguration(root: directory + "/images"), database: database, logger: logger)
        var deadlines = PodDeadlines()
        deadlines.release = release
        deadlines.abandonedCreation = abandoned
        deadlines.sandboxStart = .seconds(20)
        deadlines.statistics = .seconds(1)
        registry = PodRegistry(
            handlers: [handler], network: handler, releasers: [], images: images, database: database,
            output: InProcessOutput(logs: LocalOutput(directory: directory, reader: SilentOutput(), logger: logger)), sessions: sessions,
            deadlines: deadlines, logger: logger)
    }

    static let image = "localhost/test/image:1"

    /// A node with an image and a pod, closed whatever becomes of `body`.
    static func withPod(
        release: Duration = .seconds(30), _ body: (FakeNode, String, FakeMachine) async throws -> Void
    ) async throws {
        let node = try await FakeNode(release: release)
        do {
            try await node.loadImage()
            let pod = try await node.registry.runSandbox(spec())
            guard let machine = node.handler.machine(of: pod) else { throw SwiftletError(.internal, "the pod has no machine") }
            try await body(node, pod, machine)
        } catch {
            await node.close()
            throw error
        }
        await node.close()
    }

    /// Puts an image into the store that containers can be made of.
    func loadImage() async throws {
        var tar = TarBuilder()
        tar.file("file", "content")
        let archive = directory + "/image.tar"
        try OCIImageBuilder.archive([(Self.image, OCIImageBuilder(layers: [tar.finished()]).build())]).write(
            to: URL(fileURLWithPath: archive))
        _ = try await images.load(path: archive, reference: Self.image)
    }

    func ledger() async throws -> [String] {
        try await database.read { try ResourceRecord.fetchAll($0) }.map { "\($0.kind) \($0.name)" }
    }

    /// What the collector does at each of its rounds.
    func collectOnce() async throws { await registry.collect() }

    func close() async {
        registry.close()
        await images.shutdown()
        try? FileManager.default.removeItem(atPath: directory)
    }

    static func spec(_ name: String = "pod") -> SandboxSpec {
        SandboxSpec(metadata: .init(name: name, uid: "u-" + name, namespace: "default", attempt: 0))
    }
}
