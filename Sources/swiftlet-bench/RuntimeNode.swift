import CRI
import CRIClient
import Errors
import Foundation
import GRPC
import Linux
import Runtime

/// A runtime that the benchmark runs.
protocol RuntimeNode: Actor {
    nonisolated var subject: Subject { get }
    /// A process of this runtime has one of them in its command line.
    nonisolated var directories: [String] { get }
    nonisolated var roles: ProcessRoles { get }
    var daemon: CRIDaemon? { get }

    /// Starts the daemon and gives it the image; returns when it can run pods.
    func start() async throws
    /// Makes state directly until ListContainers shows `count` containers, none of them running.
    ///
    /// - Returns: how many there are now: fewer when making them takes too long.
    func hold(containers count: Int) async throws -> Int
    /// Where the guest of a pod is reached; nil where pods have none.
    func guestAddress(of pod: String) async throws -> VsockAddress?
    /// Ends the daemon and all its pods, whatever state they are in.
    func destroy() async
}

extension RuntimeNode {
    func guestAddress(of pod: String) async throws -> VsockAddress? { nil }

    var cri: CRIConnection { get throws { try running.connection } }
    var client: GRPCClient { get throws { try running.client } }
    /// Name and version, as the daemon answers Version.
    var version: String { daemon?.version ?? "" }

    private var running: CRIDaemon {
        get throws {
            guard let daemon else { throw SwiftletError(.failedPrecondition, "\(subject) is not started") }
            return daemon
        }
    }

    /// Ends every process of the runtime.
    func endProcesses() async {
        await BenchProcess.end(ProcessTree.now().processes(of: directories).map(\.identity))
    }

    /// Takes away what is still mounted below the directories.
    func unmount(below directories: [String]) async {
        let mounts = KernelFile.text("/proc/self/mounts", limit: 64 << 20) ?? ""
        let paths = mounts.split(separator: "\n").compactMap { $0.split(separator: " ").dropFirst().first.map(String.init) }
        for path in paths.reversed() where directories.contains(where: { path.hasPrefix($0 + "/") }) {
            _ = try? await Spawn("/bin/umount", ["--lazy", path]).run()
        }
    }

    /// Asks for every pod to be stopped, as far as the runtime still answers.
    func stopPods() async {
        guard let cri = try? cri,
            let pods = try? await cri.call(RuntimeRPC.listPodSandbox, CRIListPodSandboxRequest(), timeout: .seconds(10)).items
        else { return }
        for pod in pods {
            _ = try? await cri.call(RuntimeRPC.stopPodSandbox, .with { $0.podSandboxID = pod.id }, timeout: .seconds(30))
        }
    }
}

/// A CRI daemon's process and the connections to it.
struct CRIDaemon: Sendable {
    let process: BenchProcess
    let connection: CRIConnection
    /// For replies as they come, not decoded.
    let client: GRPCClient
    /// Name and version, as it answers Version.
    let version: String

    /// Starts the daemon and returns when it answers.
    init(_ executable: String, _ arguments: [String], endpoint: String, log: String) async throws {
        process = try BenchProcess(executable, arguments, log: log)
        connection = try CRIConnection(endpoint: endpoint)
        client = GRPCClient(endpoint: try Endpoint(parsing: endpoint))
        let deadline = ContinuousClock.now + .seconds(60)
        while true {
            do {
                let answer = try await connection.call(RuntimeRPC.version, CRIVersionRequest(), timeout: .seconds(2))
                version = "\(answer.runtimeName) \(answer.runtimeVersion)"
                return
            } catch {
                guard process.isAlive, ContinuousClock.now < deadline else {
                    await connection.close()
                    await process.stop()
                    throw SwiftletError(.unavailable, "\(executable) did not serve the CRI: \(process.said)", cause: error)
                }
                try await Task.sleep(for: .milliseconds(50))
            }
        }
    }

    func stop(grace: Duration = .seconds(15)) async {
        await client.close()
        await connection.close()
        await process.stop(grace: grace)
    }
}
