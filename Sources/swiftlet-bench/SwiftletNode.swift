import CRI
import Errors
import Foundation
import Machines
import Pods
import Runtime
import State

/// swiftletd with a configuration and directories of the benchmark's own, and libvirt inside it.
actor SwiftletNode: RuntimeNode {
    nonisolated let subject = Subject.swiftlet
    nonisolated let roles = ProcessRoles(daemon: "swiftletd", helper: nil, streams: "swiftlet-streamd")
    private nonisolated let workspace: Workspace
    private let programs: String
    private let guest: GuestFiles
    private let machine: MachineShape
    private let workload: Workload
    private(set) var daemon: CRIDaemon?
    /// Machines that wait for pods; 0: there is no pool.
    private var poolSize = 0
    /// What is copied to make containers, and how many there are.
    private var listed: (template: ContainerRecord, count: Int)?

    init(workspace: Workspace, programs: String, guest: GuestFiles, machine: MachineShape, workload: Workload) {
        self.workspace = workspace
        self.programs = programs
        self.guest = guest
        self.machine = machine
        self.workload = workload
    }

    private static let poolLimit = Duration.seconds(180)

    private nonisolated var root: String { workspace.root + "/swiftlet" }
    private nonisolated var run: String { workspace.run + "/swiftlet" }
    nonisolated var directories: [String] { [root, run] }

    func start() async throws {
        for directory in directories {
            try FileManager.default.createDirectory(
                atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o711])
        }
        try await launch()
        try await loadImage(guest.samples, as: Workload.image)
    }

    func loadImage(_ file: String, as reference: String) async throws {
        _ = try await cri.call(
            OperatorRPC.loadImage,
            .with {
                $0.path = file
                $0.reference = reference
            })
    }

    /// Where the machine of a container that is one has its disks.
    nonisolated func machineDirectory(of container: String) -> String? {
        let machines = root + "/vms"
        for pod in (try? FileManager.default.contentsOfDirectory(atPath: machines)) ?? [] {
            for one in (try? FileManager.default.contentsOfDirectory(atPath: "\(machines)/\(pod)")) ?? [] where container.hasPrefix(one) {
                return "\(machines)/\(pod)/\(one)"
            }
        }
        return nil
    }

    /// Starts the daemon over the state that is there.
    private func launch() async throws {
        try configuration.write(toFile: root + "/swiftletd.toml", atomically: true, encoding: .utf8)
        daemon = try await CRIDaemon(
            programs + "/swiftletd", ["--config", root + "/swiftletd.toml"], endpoint: "unix://\(run)/swiftletd.sock",
            log: root + "/swiftletd.log")
    }

    private var configuration: String {
        """
        endpoint = "unix://\(run)/swiftletd.sock"
        root = "\(root)"
        run = "\(run)"

        [machine]
        kernel = "\(guest.kernel)"
        initramfs = "\(guest.initramfs)"
        accelerator = "\(machine.accelerator.rawValue)"
        vsock = "vhost-user"
        libvirt = "embed"
        default_memory_mib = \(machine.memory)
        default_cpus = 1

        [pool]
        size = \(poolSize)
        drain = true

        [[host.handlers]]
        name = "runc"
        runtime = "runc"
        namespaces = ["*"]

        [[host.handlers]]
        name = "crun"
        runtime = "crun"
        namespaces = ["*"]

        [network]
        cni_config_dir = "\(workspace.cniConfiguration)"
        cni_plugin_dirs = ["\(workspace.cniPlugins)"]
        """
    }

    // MARK: Pool

    /// Starts the daemon anew, with as many machines to wait for pods. None of the daemon before are left.
    func restart(pool size: Int) async throws {
        // The machines that wait end with it.
        await daemon?.stop(grace: .seconds(60))
        daemon = nil
        poolSize = size
        try await launch()
    }

    func waitForPool(_ size: Int) async throws {
        struct Node: Decodable { var pools: [String: PoolFigures] }
        let deadline = ContinuousClock.now + Self.poolLimit
        var found: PoolFigures?
        while found?.waiting != size {
            guard ContinuousClock.now < deadline else {
                throw SwiftletError(.deadlineExceeded, "the pool is not full: \(found.map { "\($0)" } ?? "there is none")")
            }
            let status = try await cri.call(RuntimeRPC.status, .with { $0.verbose = true })
            found = try JSONDecoder().decode(Node.self, from: Data((status.info["swiftlet"] ?? "").utf8)).pools["microvm"]
            if found?.waiting != size { try await Task.sleep(for: .milliseconds(100)) }
        }
    }

    func isFromPool(_ pod: String) async throws -> Bool {
        struct Details: Decodable { var fromPool: Bool? }
        return try await details(of: pod, as: Details.self).fromPool == true
    }

    private func details<Details: Decodable>(of pod: String, as type: Details.Type) async throws -> Details {
        let status = try await cri.call(
            RuntimeRPC.podSandboxStatus,
            .with {
                $0.podSandboxID = pod
                $0.verbose = true
            })
        return try JSONDecoder().decode(type, from: Data((status.info["info"] ?? "").utf8))
    }

    func guestAddress(of pod: String) async throws -> VsockAddress? {
        struct Details: Decodable { var vsock: String }
        return .unixProxy(path: try await details(of: pod, as: Details.self).vsock)
    }

    // MARK: State for lists

    /// Copies of a real container's record, put into the database while the daemon is down.
    func hold(containers count: Int) async throws -> Int {
        let (template, held) = try await template()
        await daemon?.stop()
        daemon = nil
        let records = try (held..<count).map { try Self.copy($0, of: template) }
        try await database().write { database in
            for record in records { try record.insert(database) }
        }
        listed = (template, count)
        try await launch()
        return count
    }

    /// The record of a container that was created in a pod that has been stopped since: nothing runs for it.
    private func template() async throws -> (ContainerRecord, count: Int) {
        if let listed { return (listed.template, listed.count) }
        let pod = try await workload.runPod("listed", on: cri)
        let container = try await workload.createContainer("listed", in: pod, podName: "listed", on: cri)
        let record = try await database().read { try ContainerRecord.fetchOne($0, key: container) }
        guard let record else { throw SwiftletError(.internal, "swiftletd's database has no record of container \(container)") }
        try await workload.stopPod(pod, on: cri)
        return (record, 1)
    }

    private func database() throws -> StateDatabase {
        try StateDatabase(path: root + "/state/state.sqlite")
    }

    private static func copy(_ number: Int, of template: ContainerRecord) throws -> ContainerRecord {
        try template.copy(
            id: String(template.id.dropLast(8)) + String(format: "%08x", number), name: "listed-\(number)",
            createdAt: template.createdAt + Int64(number))
    }

    // MARK: End

    func destroy() async {
        await stopPods()
        let left = ProcessTree.now().processes(of: directories).map(\.identity)
        await daemon?.stop()
        daemon = nil
        // Machines outlive the daemon.
        await BenchProcess.end(left)
        await endProcesses()
        await unmount(below: directories)
    }
}
