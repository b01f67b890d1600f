import CRI
import Errors
import StreamClient

/// One `swiftlet run`, step by step, with what it has made so far.
actor RunSession {
    private let daemon: Daemon
    private let plan: RunPlan
    private let handler: String
    private let progress: Progress
    private var logs: LogDirectory?
    private var podID: String?
    private var podWasAsked = false
    private var containerID: String?

    init(_ plan: RunPlan, handler: String, _ daemon: Daemon, _ progress: Progress) {
        self.plan = plan
        self.handler = handler
        self.daemon = daemon
        self.progress = progress
    }

    /// Runs the container to its end, its output going to this process's.
    ///
    /// - Returns: the container's exit code.
    func runToEnd() async throws -> Int32 {
        let (id, logPath) = try await create()
        let follower = try LogFollower(path: logPath)
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await follower.follow { $0.print() } }
            // However it ends, the log is read to its end first.
            defer { follower.finish() }
            try await start(id)
            let status = try await ContainerWatch.exit(of: id, daemon)
            follower.finish()
            try await group.waitForAll()
            if status.reason == "OOMKilled" { progress.note("the container was killed: out of memory (--memory gives it more)") }
            return status.exitCode
        }
    }

    /// Runs the container with this process's standard streams as those of its first process, or as a machine's console.
    ///
    /// - Returns: its exit code; nil when the keys to detach were typed, and it runs on.
    func runAttached(_ detachKeys: DetachKeys, _ connector: SessionConnector) async throws -> Int32? {
        let (id, _) = try await create()
        try await start(id)
        let attachment = ContainerAttachment(
            container: id, step: "attaching to \(plan.name)", hasStdin: plan.container.stdin, hasTerminal: plan.container.tty,
            detachKeys: detachKeys, endsBySignals: false)
        switch try await attachment.run(daemon, connector) {
        case .exited(let code): return code
        case .detached: return nil
        }
    }

    /// Starts the container and leaves it running.
    func runDetached() async throws {
        let (id, _) = try await create()
        try await start(id)
    }

    private func create() async throws -> (id: String, logPath: String) {
        let image = try await presentImage()
        try Task.checkCancellation()
        let directory = try LogDirectory(creatingFor: plan.name, uid: plan.uid)
        logs = directory
        let config = plan.pod(loggingTo: directory)
        let pod = try await progress.during("booting \(plan.name)") {
            podWasAsked = true
            return try await completed { [daemon, handler, plan] in
                try await daemon.call(
                    RuntimeRPC.runPodSandbox,
                    .with {
                        $0.config = config
                        $0.runtimeHandler = handler
                    }, "booting pod \(plan.name)", within: Daemon.Patience.start
                ).podSandboxID
            }
        }
        podID = pod
        try Task.checkCancellation()
        let container = try await completed { [daemon, plan] in
            try await daemon.call(
                RuntimeRPC.createContainer,
                .with {
                    $0.podSandboxID = pod
                    $0.config = plan.container
                    $0.config.image.image = image
                    $0.sandboxConfig = config
                }, "creating the container", within: Daemon.Patience.start
            ).containerID
        }
        containerID = container
        try Task.checkCancellation()
        return (container, "\(directory.path)/\(plan.container.logPath)")
    }

    private func start(_ id: String) async throws {
        try await progress.during("starting \(plan.name)") {
            _ = try await daemon.call(
                RuntimeRPC.startContainer, .with { $0.containerID = id }, "starting the container", within: Daemon.Patience.start)
        }
    }

    /// The id of the image, pulled if it is not on the node.
    private func presentImage() async throws -> String {
        let request = CRIImageStatusRequest.with { $0.image.image = plan.image }
        let status = try await daemon.call(ImageRPC.imageStatus, request, "looking for image \(plan.image)")
        if status.hasImage { return status.image.id }
        return try await progress.during("pulling \(plan.image)") { try await ImagePull.pull(plan.image, daemon) }
    }

    /// Does what makes something, to its end even when the user interrupts: what it made must be known to be removed.
    private func completed<Value: Sendable>(_ work: @escaping @Sendable () async throws -> Value) async throws -> Value {
        try await Task { try await work() }.value
    }

    /// Ends the container, and what else runs in the pod, but leaves both on the node.
    func stop() async throws {
        guard let containerID else { return }
        _ = try await daemon.call(
            RuntimeRPC.stopContainer,
            .with {
                $0.containerID = containerID
                $0.timeout = 10
            }, "stopping the container", within: Daemon.Patience.end)
    }

    /// Takes away all that was made.
    func remove() async throws {
        defer { logs?.remove() }
        for pod in try await pods() { try await PodRemoval.remove(pod, name: plan.name, daemon) }
    }

    /// A pod whose making ended in an error should be gone, but may yet be there: it is found by its label.
    private func pods() async throws -> [String] {
        if let podID { return [podID] }
        guard podWasAsked else { return [] }
        let request = CRIListPodSandboxRequest.with { $0.filter.labelSelector = [RunPlan.label: plan.uid] }
        return try await daemon.call(RuntimeRPC.listPodSandbox, request, "looking for pod \(plan.name)").items.map(\.id)
    }
}
