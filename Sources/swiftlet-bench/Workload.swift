import CRI
import CRIClient
import GRPC

/// The pods and containers that both runtimes are asked for, alike in every field.
struct Workload: Sendable {
    static let image = "localhost/swiftlet/sample:latest"
    static let vmImage = "localhost/swiftlet/small-vm:latest"
    static let vmContainer = "machine"

    var logs: String
    /// On the node; containers that ask for programs have it at ``PortServer/directory``.
    var programs: String
    var cgroup: String

    /// A pod as a kubelet asks for it.
    private func podConfig(_ name: String) -> CRIPodSandboxConfig {
        .with {
            $0.metadata = .with {
                $0.name = name
                $0.uid = uid(name)
                $0.namespace = "bench"
            }
            $0.hostname = name
            $0.logDirectory = logs
            $0.dnsConfig = .with {
                $0.servers = ["10.88.0.1"]
                $0.searches = ["bench.svc.cluster.local", "svc.cluster.local", "cluster.local"]
                $0.options = ["ndots:5"]
            }
            $0.labels = podLabels(name)
            $0.annotations = ["kubernetes.io/config.seen": "2026-01-01T00:00:00.000000000Z", "kubernetes.io/config.source": "api"]
            $0.linux.cgroupParent = cgroup
            $0.linux.securityContext.namespaceOptions.pid = .container
        }
    }

    private func containerConfig(_ name: String, podName: String, command: [String], stdin: Bool, programs: Bool) -> CRIContainerConfig {
        .with {
            $0.metadata.name = name
            $0.image.image = Self.image
            $0.command = command
            $0.stdin = stdin
            if programs {
                $0.mounts = [
                    .with { ($0.hostPath, $0.containerPath, $0.readonly) = (self.programs, PortServer.directory, true) }
                ]
            }
            $0.logPath = "\(podName)-\(name).log"
            $0.linux.securityContext.namespaceOptions.pid = .container
            $0.labels = podLabels(podName).merging(["io.kubernetes.container.name": name]) { $1 }
            $0.annotations = [
                "io.kubernetes.container.hash": "1f8a5c2e",
                "io.kubernetes.container.restartCount": "0",
                "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
                "io.kubernetes.container.terminationMessagePolicy": "File",
                "io.kubernetes.pod.terminationGracePeriod": "30",
            ]
        }
    }

    private func uid(_ name: String) -> String { "7c1b2f6e-90aa-4c3e-8f5d-\(name)" }

    private func podLabels(_ name: String) -> [String: String] {
        ["io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "bench", "io.kubernetes.pod.uid": uid(name)]
    }

    /// Path of a container's log.
    func log(of container: String, podName: String) -> String { "\(logs)/\(podName)-\(container).log" }

    // MARK: Calls

    func runPod(
        _ name: String, handler: String = "", annotations: [String: String] = [:], on cri: CRIConnection
    ) async throws -> String {
        var config = podConfig(name)
        config.annotations.merge(annotations) { $1 }
        let request = CRIRunPodSandboxRequest.with { ($0.config, $0.runtimeHandler) = (config, handler) }
        return try await cri.call(RuntimeRPC.runPodSandbox, request).podSandboxID
    }

    /// The one container of a pod that is a virtual machine.
    func createVM(in pod: String, podName: String, on cri: CRIConnection) async throws -> String {
        var config = containerConfig(Self.vmContainer, podName: podName, command: [], stdin: false, programs: false)
        config.image.image = Self.vmImage
        config.linux.resources.memoryLimitInBytes = 128 << 20
        let request = CRICreateContainerRequest.with {
            ($0.podSandboxID, $0.config, $0.sandboxConfig) = (pod, config, podConfig(podName))
        }
        return try await cri.call(RuntimeRPC.createContainer, request).containerID
    }

    /// - Parameter command: sleeps where nothing else is asked for.
    func createContainer(
        _ name: String, in pod: String, podName: String, command: [String] = ["/bin/sleep", "1000000"], stdin: Bool = false,
        programs: Bool = false,
        on cri: CRIConnection
    ) async throws -> String {
        let request = CRICreateContainerRequest.with {
            $0.podSandboxID = pod
            $0.config = containerConfig(name, podName: podName, command: command, stdin: stdin, programs: programs)
            $0.sandboxConfig = podConfig(podName)
        }
        return try await cri.call(RuntimeRPC.createContainer, request).containerID
    }

    func startContainer(_ container: String, on cri: CRIConnection) async throws {
        _ = try await cri.call(RuntimeRPC.startContainer, .with { $0.containerID = container })
    }

    func removeContainer(_ container: String, on cri: CRIConnection) async throws {
        _ = try await cri.call(RuntimeRPC.removeContainer, .with { $0.containerID = container })
    }

    /// Runs `true` in the container and returns its exit code.
    func execTrue(_ container: String, on cri: CRIConnection) async throws -> Int32 {
        try await exec(["true"], in: container, on: cri)
    }

    /// Runs a command in the container to its end and returns its exit code.
    func exec(_ command: [String], in container: String, on cri: CRIConnection) async throws -> Int32 {
        let request = CRIExecSyncRequest.with {
            $0.containerID = container
            $0.cmd = command
            $0.timeout = 30
        }
        return try await cri.call(RuntimeRPC.execSync, request).exitCode
    }

    /// Lists all containers. The time ends with the reply's last byte, before it is decoded: that costs the same for all.
    func listContainers(on client: GRPCClient) async throws -> (count: Int, time: Duration) {
        let start = ContinuousClock.now
        let reply = try await client.unary(RuntimeRPC.listContainers.path(), [], timeout: .seconds(60))
        let time = ContinuousClock.now - start
        return (try CRIListContainersResponse(serializedBytes: reply).containers.count, time)
    }

    func stopPod(_ pod: String, on cri: CRIConnection) async throws {
        _ = try await cri.call(RuntimeRPC.stopPodSandbox, .with { $0.podSandboxID = pod })
    }

    func removePod(_ pod: String, on cri: CRIConnection) async throws {
        _ = try await cri.call(RuntimeRPC.removePodSandbox, .with { $0.podSandboxID = pod })
    }

    /// A pod with one running container.
    func runFullPod(_ name: String, handler: String = "", on cri: CRIConnection) async throws -> String {
        let pod = try await runPod(name, handler: handler, on: cri)
        try await startContainer(createContainer("main", in: pod, podName: name, on: cri), on: cri)
        return pod
    }
}
