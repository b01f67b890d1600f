import CRI
import Errors
import Foundation
import GRPC
import Runtime
import Support
import Testing

/// Shorthand for what most tests do.
extension Node {
    static let image = "localhost/swiftlet/sample:latest"

    nonisolated func podConfig(_ name: String, _ change: (inout CRIPodSandboxConfig) -> Void = { _ in }) -> CRIPodSandboxConfig {
        .with {
            $0.metadata = .with {
                $0.name = name
                $0.uid = "uid-" + name
                $0.namespace = "test"
            }
            $0.hostname = name
            $0.logDirectory = logs
            $0.dnsConfig = .with {
                $0.servers = ["10.88.0.1"]
                $0.searches = ["test.svc"]
                $0.options = ["ndots:5"]
            }
            change(&$0)
        }
    }

    func runPod(_ name: String, _ change: (inout CRIPodSandboxConfig) -> Void = { _ in }) async throws -> String {
        let config = podConfig(name, change)
        return try await cri.call(RuntimeRPC.runPodSandbox, .with { $0.config = config }).podSandboxID
    }

    func createContainer(
        in pod: String, _ name: String, _ command: [String], image: String = Node.image,
        _ change: (inout CRIContainerConfig) -> Void = { _ in }
    ) async throws -> String {
        let config = CRIContainerConfig.with {
            $0.metadata.name = name
            $0.image.image = image
            $0.command = command
            $0.logPath = "\(name).log"
            change(&$0)
        }
        return try await cri.call(
            RuntimeRPC.createContainer,
            .with {
                $0.podSandboxID = pod
                $0.config = config
            }
        ).containerID
    }

    func start(_ container: String) async throws {
        _ = try await cri.call(RuntimeRPC.startContainer, .with { $0.containerID = container })
    }

    func runContainer(
        in pod: String, _ name: String, _ command: [String], _ change: (inout CRIContainerConfig) -> Void = { _ in }
    ) async throws -> String {
        let id = try await createContainer(in: pod, name, command, change)
        try await start(id)
        return id
    }

    /// Waits for the container's end and returns its status.
    func exit(of container: String, within limit: Duration = .seconds(120)) async throws -> CRIContainerStatus {
        var status = CRIContainerStatus()
        try await eventually("container \(container) exits; daemon: \(tail(daemonLog))", within: limit) {
            status = try await self.status(of: container)
            return status.state == .containerExited
        }
        return status
    }

    func status(of container: String) async throws -> CRIContainerStatus {
        try await cri.call(RuntimeRPC.containerStatus, .with { $0.containerID = container }).status
    }

    func stop(_ container: String, timeout: Int64) async throws {
        _ = try await cri.call(
            RuntimeRPC.stopContainer,
            .with {
                $0.containerID = container
                $0.timeout = timeout
            })
    }

    func podStatus(_ pod: String, verbose: Bool = false) async throws -> CRIPodSandboxStatusResponse {
        try await cri.call(
            RuntimeRPC.podSandboxStatus,
            .with {
                $0.podSandboxID = pod
                $0.verbose = verbose
            })
    }

    /// What verbose status says of the pod's machine.
    func details(of pod: String) async throws -> JSONValue {
        let info = try await podStatus(pod, verbose: true).info["info"] ?? ""
        return try JSONDecoder().decode(JSONValue.self, from: Data(info.utf8))
    }

    /// The pod's QEMU.
    func machine(of pod: String) async throws -> pid_t {
        guard case .integer(let process)? = try await details(of: pod)["pid"] else {
            throw SwiftletError(.internal, "the verbose status of pod \(pod) names no process")
        }
        return pid_t(process)
    }

    func exec(_ container: String, _ command: [String], timeout: Int64 = 60) async throws -> CRIExecSyncResponse {
        try await cri.call(
            RuntimeRPC.execSync,
            .with {
                $0.containerID = container
                $0.cmd = command
                $0.timeout = timeout
            })
    }

    func shell(_ container: String, _ script: String) async throws -> String {
        let result = try await exec(container, ["/bin/sh", "-c", script])
        return String(decoding: result.stdout + result.stderr, as: UTF8.self)
    }

    func stopPod(_ pod: String) async throws {
        _ = try await cri.call(RuntimeRPC.stopPodSandbox, .with { $0.podSandboxID = pod })
    }

    func removePod(_ pod: String) async throws {
        _ = try await cri.call(RuntimeRPC.removePodSandbox, .with { $0.podSandboxID = pod })
    }

    func removeContainer(_ container: String) async throws {
        _ = try await cri.call(RuntimeRPC.removeContainer, .with { $0.containerID = container })
    }

    /// The contents of a log, without time stamps: "stdout F text".
    nonisolated func log(_ name: String) throws -> [String] {
        try String(contentsOfFile: "\(logs)/\(name).log", encoding: .utf8).split(separator: "\n").map {
            String($0.drop { $0 != " " }.dropFirst())
        }
    }

    /// Waits until a log has so many lines.
    nonisolated func waitForLog(_ name: String, lines count: Int = 1) async throws {
        try await waitForLog(name, "\(count) lines") { $0.count >= count }
    }

    /// Waits until a log has a whole line of standard output.
    nonisolated func waitForLog(_ name: String, line: String) async throws {
        try await waitForLog(name, line) { $0.contains("stdout F \(line)") }
    }

    private nonisolated func waitForLog(_ name: String, _ what: String, _ isEnough: ([String]) -> Bool) async throws {
        try await eventually("\(name) writes \(what)", within: .seconds(120)) { isEnough((try? log(name)) ?? []) }
    }

    func loadSampleImage() async throws {
        let archive = environment.guest + "/samples.tar"
        _ = try await cri.call(
            OperatorRPC.loadImage,
            .with {
                $0.path = archive
                $0.reference = Node.image
            })
    }
}

/// What a call is refused with; nil when it is not.
func refusal(_ body: () async throws -> Void) async -> GRPCStatus? {
    do {
        try await body()
        return nil
    } catch {
        return error as? GRPCStatus
    }
}
