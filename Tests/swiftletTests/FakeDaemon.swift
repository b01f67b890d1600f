import CRI
import Errors
import Foundation
import GRPC
import Logging
import StreamServer
import SwiftProtobuf

/// A swiftletd without virtual machines, on a socket of its own: it keeps pods and containers in memory, and a
/// container "runs" by writing its log.
actor FakeDaemon {
    /// What a container does when it is started.
    struct Script: Sendable {
        var stdout: [String] = []
        var stderr: [String] = []
        var exitCode: Int32 = 0
        /// Exits only when it is stopped.
        var runsUntilStopped = false
        var startFailure: GRPCStatus?
        var bootFailure: GRPCStatus?
    }

    let script: Script
    private(set) var pods: [String: CRIPodSandboxStatus] = [:]
    private(set) var containers: [String: CRIContainerStatus] = [:]
    private(set) var requests: [String] = []
    private(set) var containerConfig = CRIContainerConfig()
    private(set) var podConfig = CRIPodSandboxConfig()
    /// The file of the pods' console.
    private var console: String?
    private var podOf: [String: String] = [:]
    private(set) var isPaused = false
    private(set) var keys: [String] = []
    private var corruptions: UInt64 = 0
    /// The machines' VNC socket.
    private var screen = ""
    private var images: [String: String]
    private var count = 0
    /// What serves the sessions.
    private let streams: StreamServer?
    /// Whether containers have a terminal.
    private let hasTerminal: Bool

    init(_ script: Script, images: [String: String], streams: StreamServer? = nil, hasTerminal: Bool = false) {
        self.script = script
        self.images = images
        (self.streams, self.hasTerminal) = (streams, hasTerminal)
    }

    /// Serves at `DIRECTORY/d.sock` while `body` runs.
    static func serve<Value: Sendable>(
        _ script: Script = Script(), images: [String: String] = ["busybox": "sha256:b0"], streams: StreamServer? = nil,
        hasTerminal: Bool = false, _ body: @Sendable (FakeDaemon, String) async throws -> Value
    ) async throws -> Value {
        try await withTemporaryDirectory { directory in
            let daemon = FakeDaemon(script, images: images, streams: streams, hasTerminal: hasTerminal)
            let server = GRPCServer(methods: daemon.methods(), logger: Logger(label: "fake"))
            try server.listen(on: .unix(path: directory + "/d.sock"))
            server.start()
            let outcome: Result<Value, any Error>
            do { outcome = .success(try await body(daemon, "unix://\(directory)/d.sock")) } catch { outcome = .failure(error) }
            await server.shutdown(grace: .zero)
            return try outcome.get()
        }
    }

    private nonisolated func methods() -> MethodTable {
        var table = MethodTable()
        add(RuntimeRPC.version, &table) { _, _ in
            .with {
                $0.runtimeName = "swiftlet"
                $0.runtimeVersion = "9.9.9"
                $0.runtimeApiVersion = "v1"
            }
        }
        add(RuntimeRPC.status, &table) { _, _ in
            .with {
                $0.status.conditions = [
                    .with {
                        $0.type = "RuntimeReady"
                        $0.status = true
                    }
                ]
                $0.info = ["config": "{}"]
            }
        }
        add(RuntimeRPC.runPodSandbox, &table) { try $0.runPod($1) }
        add(RuntimeRPC.stopPodSandbox, &table) { $0.stopPod($1.podSandboxID) }
        add(RuntimeRPC.removePodSandbox, &table) { $0.removePod($1.podSandboxID) }
        add(RuntimeRPC.podSandboxStatus, &table) { daemon, request in
            guard let pod = daemon.pods[request.podSandboxID] else { throw GRPCStatus(.notFound, "no pod") }
            return .with {
                $0.status = pod
                if request.verbose { $0.info = ["info": daemon.console.map { "{\"console\":\"\($0)\",\"pid\":7}" } ?? "{\"pid\":7}"] }
            }
        }
        add(RuntimeRPC.listPodSandbox, &table) { $0.listPods($1.filter) }
        add(RuntimeRPC.createContainer, &table) { $0.create($1) }
        add(RuntimeRPC.startContainer, &table) { try $0.start($1.containerID) }
        add(RuntimeRPC.stopContainer, &table) { daemon, request in
            daemon.exit(request.containerID, 143)
            return .init()
        }
        add(RuntimeRPC.removeContainer, &table) { daemon, request in
            daemon.containers[request.containerID] = nil
            return .init()
        }
        add(RuntimeRPC.containerStatus, &table) { daemon, request in
            guard let container = daemon.containers[request.containerID] else { throw GRPCStatus(.notFound, "no container") }
            let config = request.verbose && daemon.hasTerminal ? #"{"config":{"tty":true}}"# : #"{"config":{}}"#
            return .with {
                $0.status = container
                if request.verbose { $0.info = ["info": config] }
            }
        }
        add(RuntimeRPC.listContainers, &table) { $0.listContainers($1.filter) }
        add(RuntimeRPC.exec, &table) { daemon, request in
            let set = try StreamSet(stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, tty: request.tty)
            let exec = ExecRequest(containerID: request.containerID, command: request.cmd, streams: set)
            return try .with { $0.url = try daemon.streams?.url(for: .exec(exec)) ?? "" }
        }
        add(RuntimeRPC.attach, &table) { daemon, request in
            let set = try StreamSet(stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, tty: request.tty)
            let attach = AttachRequest(containerID: request.containerID, streams: set)
            return try .with { $0.url = try daemon.streams?.url(for: .attach(attach)) ?? "" }
        }
        add(RuntimeRPC.portForward, &table) { daemon, request in
            guard daemon.pods[request.podSandboxID]?.state == .sandboxReady else { throw GRPCStatus(.notFound, "no pod that runs") }
            let forward = try PortForwardRequest(sandboxID: request.podSandboxID, ports: request.port)
            return try .with { $0.url = try daemon.streams?.url(for: .portForward(forward)) ?? "" }
        }
        addOperator(&table)
        add(ImageRPC.imageStatus, &table) { $0.imageStatus($1.image.image) }
        add(ImageRPC.pullImage, &table) { try $0.pull($1.image.image) }
        add(ImageRPC.listImages, &table) { daemon, _ in daemon.listImages() }
        add(ImageRPC.removeImage, &table) { $0.removeImage($1.image.image) }
        add(OperatorRPC.loadImage, &table) { _, request in
            .with {
                $0.images = [
                    .with {
                        $0.id = "sha256:10ad"
                        $0.references = [request.reference.isEmpty ? request.path : request.reference]
                    }
                ]
            }
        }
        return table
    }

    /// Every container that runs is a virtual machine, as far as this daemon says.
    private nonisolated func addOperator(_ table: inout MethodTable) {
        add(OperatorRPC.describeMachine, &table) { daemon, request in
            let id = try daemon.machine(request.id)
            return .with {
                ($0.name, $0.state, $0.pid, $0.vcpus, $0.memory) = ("swiftlet-\(id)", daemon.isPaused ? "paused" : "running", 7, 2, 1 << 30)
                ($0.containerID, $0.vncSocket) = (id, daemon.screen)
                if request.withXml { $0.xml = "<domain/>" }
            }
        }
        add(OperatorRPC.controlMachine, &table) { daemon, request in
            _ = try daemon.machine(request.id)
            daemon.isPaused = request.action == .pause
            return .init()
        }
        add(OperatorRPC.screenshot, &table) { daemon, request in
            _ = try daemon.machine(request.id)
            return .with { $0.png = .init([0x89, 0x50]) }
        }
        add(OperatorRPC.checkDisk, &table) { daemon, request in
            _ = try daemon.machine(request.id)
            return .with {
                $0.disks = [
                    .with {
                        ($0.serial, $0.path, $0.allocatedClusters, $0.totalClusters) = ("root", "/d/root.qcow2", 3, 9)
                        $0.corruptions = daemon.corruptions
                    }
                ]
                $0.running = true
            }
        }
        add(OperatorRPC.addAuthorizedKeys, &table) { daemon, request in
            _ = try daemon.machine(request.id)
            daemon.keys.append("\(request.user): \(request.keys.joined(separator: ", "))")
            return .init()
        }
    }

    /// The container that a machine is, by its own id or its pod's.
    private func machine(_ id: String) throws -> String {
        guard let container = containers.values.first(where: { $0.id == id || podOf[$0.id] == id }) else {
            throw GRPCStatus(.notFound, "no container and no pod sandbox \(id)")
        }
        guard container.state == .containerRunning else { throw GRPCStatus(.failedPrecondition, "container \(id) does not run") }
        return container.id
    }

    private nonisolated func add<Request, Response>(
        _ method: RPCDescriptor<Request, Response>, _ table: inout MethodTable,
        _ answer: @escaping @Sendable (isolated FakeDaemon, Request) throws -> Response
    ) {
        table.add(
            path: method.path(),
            .unary { bytes, _ in
                try await self.answering(method.name, try Request(serializedBytes: bytes), answer).serializedBytes()
            })
    }

    private func answering<Request: Sendable, Response: Sendable>(
        _ name: String, _ request: Request, _ answer: @Sendable (isolated FakeDaemon, Request) throws -> Response
    ) throws -> Response {
        requests.append(name)
        return try answer(self, request)
    }

    private func newID(_ prefix: String) -> String {
        count += 1
        return "\(prefix)\(count)0000000000000000"
    }

    private func runPod(_ request: CRIRunPodSandboxRequest) throws -> CRIRunPodSandboxResponse {
        let id = newID("p")
        podConfig = request.config
        pods[id] = .with {
            $0.id = id
            $0.metadata = request.config.metadata
            $0.state = .sandboxReady
            $0.labels = request.config.labels
            $0.annotations = request.config.annotations
            $0.network.ip = "10.1.2.3"
            $0.runtimeHandler = request.runtimeHandler
        }
        // The worst case: an error, and yet a pod is left.
        if let failure = script.bootFailure { throw failure }
        return .with { $0.podSandboxID = id }
    }

    private func stopPod(_ id: String) -> CRIStopPodSandboxResponse {
        pods[id]?.state = .sandboxNotready
        for (container, pod) in podOf where pod == id { exit(container, 137) }
        return .init()
    }

    /// As a pod does whose machine has ended.
    func end(_ name: String) {
        for (id, pod) in pods where pod.metadata.name == name { pods[id]?.state = .sandboxNotready }
    }

    private func removePod(_ id: String) -> CRIRemovePodSandboxResponse {
        pods[id] = nil
        for (container, pod) in podOf where pod == id { containers[container] = nil }
        return .init()
    }

    private func listPods(_ filter: CRIPodSandboxFilter) -> CRIListPodSandboxResponse {
        let found = pods.values.filter { pod in
            filter.labelSelector.allSatisfy { pod.labels[$0.key] == $0.value } && (!filter.hasState || pod.state == filter.state.state)
        }
        return .with {
            $0.items = found.map { pod in
                .with {
                    $0.id = pod.id
                    $0.metadata = pod.metadata
                    $0.state = pod.state
                    $0.labels = pod.labels
                    $0.runtimeHandler = pod.runtimeHandler
                }
            }
        }
    }

    private func create(_ request: CRICreateContainerRequest) -> CRICreateContainerResponse {
        let id = newID("c")
        containerConfig = request.config
        podOf[id] = request.podSandboxID
        containers[id] = .with {
            $0.id = id
            $0.metadata = request.config.metadata
            $0.state = .containerCreated
            $0.image = request.config.image
            $0.logPath = request.sandboxConfig.logDirectory + "/" + request.config.logPath
        }
        return .with { $0.containerID = id }
    }

    private func start(_ id: String) throws -> CRIStartContainerResponse {
        if let failure = script.startFailure { throw failure }
        guard let container = containers[id] else { throw GRPCStatus(.notFound, "no container \(id)") }
        var log = ""
        for line in script.stdout { log += "2026-01-01T00:00:00.000000000Z stdout F \(line)\n" }
        for line in script.stderr { log += "2026-01-01T00:00:00.000000000Z stderr F \(line)\n" }
        try log.write(toFile: container.logPath, atomically: false, encoding: .utf8)
        containers[id]?.state = .containerRunning
        if !script.runsUntilStopped { exit(id, script.exitCode) }
        return .init()
    }

    func spoilDisks() { corruptions = 2 }

    func showScreens(at socket: String) { screen = socket }

    func keepConsole(in path: String) { console = path }

    /// Ends a container and starts its next attempt, as the kubelet does.
    ///
    /// - Parameter log: of the attempt that is ended.
    func startAnew(_ id: String, log: String) throws {
        guard var next = containers[id] else { throw GRPCStatus(.notFound, "no container \(id)") }
        exit(id, 1)
        containers[id]?.logPath += ".earlier"
        try log.write(toFile: next.logPath + ".earlier", atomically: false, encoding: .utf8)
        next.id = newID("c")
        next.metadata.attempt += 1
        podOf[next.id] = podOf[id]
        containers[next.id] = next
    }

    private func exit(_ id: String, _ code: Int32) {
        guard containers[id]?.state != .containerExited else { return }
        containers[id]?.state = .containerExited
        containers[id]?.exitCode = code
    }

    private func listContainers(_ filter: CRIContainerFilter) -> CRIListContainersResponse {
        let found = containers.values.filter { !filter.hasState || $0.state == filter.state.state }
        return .with {
            $0.containers = found.map { container in
                .with {
                    $0.id = container.id
                    $0.podSandboxID = podOf[container.id] ?? ""
                    $0.metadata = container.metadata
                    $0.state = container.state
                    $0.image = container.image
                }
            }
        }
    }

    private func imageStatus(_ name: String) -> CRIImageStatusResponse {
        guard let id = images[name] ?? images.values.first(where: { $0 == name }) else { return .init() }
        return .with { $0.image.id = id }
    }

    private func pull(_ name: String) throws -> CRIPullImageResponse {
        guard !name.contains("missing") else { throw GRPCStatus(.notFound, "manifest of \(name):\nunknown") }
        images[name] = "sha256:9u11"
        return .with { $0.imageRef = "sha256:9u11" }
    }

    private func listImages() -> CRIListImagesResponse {
        .with {
            $0.images = images.sorted { $0.key < $1.key }.map { name, id in
                .with {
                    $0.id = id
                    $0.repoTags = ["\(name):latest"]
                    $0.size = 1_000_000
                }
            }
        }
    }

    private func removeImage(_ id: String) -> CRIRemoveImageResponse {
        images = images.filter { $0.value != id }
        return .init()
    }
}
