import CRI
import Errors
import Foundation
import Linux

/// Debian's containerd with runc, with a configuration and directories of the benchmark's own.
actor ContainerdNode: RuntimeNode {
    nonisolated let subject = Subject.containerd
    nonisolated let roles = ProcessRoles(daemon: "containerd", helper: "containerd-shim-runc-v2", streams: nil)
    private nonisolated let workspace: Workspace
    private let sampleArchive: String
    private let workload: Workload
    private(set) var daemon: CRIDaemon?
    /// The pod whose containers are listed, and how many it has.
    private var listed: (pod: String, count: Int)?

    init(workspace: Workspace, sampleArchive: String, workload: Workload) {
        self.workspace = workspace
        self.sampleArchive = sampleArchive
        self.workload = workload
    }

    private nonisolated var directory: String { workspace.root + "/containerd" }
    nonisolated var directories: [String] { [directory] }
    private nonisolated var socket: String { directory + "/containerd.sock" }

    func start() async throws {
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let file = directory + "/config.toml"
        try configuration(snapshotter: await snapshotter()).write(toFile: file, atomically: true, encoding: .utf8)
        daemon = try await CRIDaemon(
            "/usr/bin/containerd", ["--config", file], endpoint: "unix://" + socket, log: directory + "/containerd.log")
        let pause = directory + "/pause.tar"
        try await PauseImage.write(to: pause)
        try await importImage(pause, as: PauseImage.name)
        try await importImage(sampleArchive, as: Workload.image)
    }

    /// Loads an OCI archive under one name and waits until the CRI lists it: the CRI plugin learns of it by an event.
    private func importImage(_ archive: String, as name: String) async throws {
        // A base name that the archive's own names do not begin with keeps those out.
        try await ctr(["images", "import", "--base-name", "localhost/swiftlet", "--index-name", name, archive])
        let deadline = ContinuousClock.now + .seconds(30)
        while try await !cri.call(ImageRPC.imageStatus, .with { $0.image.image = name }).hasImage {
            guard ContinuousClock.now < deadline else {
                throw SwiftletError(.deadlineExceeded, "containerd does not show the image \(name)")
            }
            try await Task.sleep(for: .milliseconds(50))
        }
    }

    private func ctr(_ arguments: [String]) async throws {
        try await Spawn("/usr/bin/ctr", ["--address", socket, "--namespace", "k8s.io"] + arguments, deadline: .seconds(120)).check()
    }

    /// Overlay mounts where the file system of the state can carry them.
    private func snapshotter() async throws -> String {
        let trial = directory + "/overlay"
        defer { try? FileManager.default.removeItem(atPath: trial) }
        for name in ["lower", "upper", "work", "merged"] {
            try FileManager.default.createDirectory(atPath: "\(trial)/\(name)", withIntermediateDirectories: true)
        }
        let options = "lowerdir=\(trial)/lower,upperdir=\(trial)/upper,workdir=\(trial)/work"
        let mount = try await Spawn("/bin/mount", ["-t", "overlay", "overlay", "-o", options, trial + "/merged"]).run()
        guard mount.succeeded else { return "native" }
        try await Spawn("/bin/umount", [trial + "/merged"]).check()
        return "overlayfs"
    }

    private func configuration(snapshotter: String) -> String {
        """
        version = 2
        root = "\(directory)/root"
        state = "\(directory)/state"
        disabled_plugins = ["io.containerd.internal.v1.opt"]

        [grpc]
          address = "\(socket)"

        [plugins."io.containerd.grpc.v1.cri"]
          sandbox_image = "\(PauseImage.name)"
          # For machines whose root may not lower the score.
          restrict_oom_score_adj = true
          netns_mounts_under_state_dir = true

          [plugins."io.containerd.grpc.v1.cri".cni]
            bin_dir = "\(workspace.cniPlugins)"
            conf_dir = "\(workspace.cniConfiguration)"

          [plugins."io.containerd.grpc.v1.cri".containerd]
            snapshotter = "\(snapshotter)"

            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
              runtime_type = "io.containerd.runc.v2"

              [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
                SystemdCgroup = false
        """
    }

    // MARK: State for lists

    /// Containers that were created and never started: they have no process. Ends early after two minutes.
    func hold(containers count: Int) async throws -> Int {
        let (cri, workload) = (try cri, workload)
        let pod: String
        if let listed { pod = listed.pod } else { pod = try await workload.runPod("listed", on: cri) }
        let first = listed?.count ?? 0
        let deadline = ContinuousClock.now + .seconds(120)
        let made = try await withThrowingTaskGroup(of: Int.self) { group in
            let makers = 4
            for maker in 0..<makers {
                group.addTask {
                    var made = 0
                    for number in stride(from: first + maker, to: count, by: makers) where ContinuousClock.now < deadline {
                        _ = try await workload.createContainer("listed-\(number)", in: pod, podName: "listed", on: cri)
                        made += 1
                    }
                    return made
                }
            }
            return try await group.reduce(0, +)
        }
        listed = (pod, first + made)
        return first + made
    }

    // MARK: End

    func destroy() async {
        await stopPods()
        let left = ProcessTree.now().processes(of: directories).map(\.identity)
        await daemon?.stop()
        daemon = nil
        // Shims outlive their daemon, and containers their shims.
        await BenchProcess.end(left)
        await endProcesses()
        await unmount(below: directories)
    }
}
