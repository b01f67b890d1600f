import CRI
import CRIClient
import Errors
import Foundation
import GRPC
import Glibc
import Linux
import Support
import Testing

/// A node of the test's own: swiftletd with its own directories, CNI configuration and embedded libvirt, inside the network
/// namespace that the run was started in.
actor Node {
    /// What the run was started with (see the Makefile).
    struct Environment: Sendable {
        var build: String
        var guest: String
        /// Of the run: its name is that of the directories below /tmp and /run that are the run's.
        var namespace: String

        var scratch: String { "/tmp/\(namespace)" }

        static func current() throws -> Environment {
            let variables = ProcessInfo.processInfo.environment
            guard let build = variables["SWIFTLET_BUILD"], let guest = variables["SWIFTLET_GUEST"] else {
                throw SwiftletError(.failedPrecondition, "SWIFTLET_BUILD and SWIFTLET_GUEST are not set; use make test")
            }
            // Pod addresses must never exist in the machine's own network.
            let own = inode("/proc/self/ns/net")
            guard let namespace = variables["SWIFTLET_NAMESPACE"], own != nil, own == inode(namespace) else {
                throw SwiftletError(.failedPrecondition, "system tests run in a network namespace of their own; use make test")
            }
            return Environment(build: build, guest: guest, namespace: URL(fileURLWithPath: namespace).lastPathComponent)
        }

        private static func inode(_ path: String) -> UInt64? {
            var status = stat()
            return stat(path, &status) == 0 ? UInt64(status.st_ino) : nil
        }
    }

    /// Changes to the daemon's configuration.
    struct Options: Sendable {
        var kernel: String?
        var initramfs: String?
        /// The kernel's modules on demand.
        var modules: String?
        var bootTimeout = 60
        var libvirt = "embed"
        var memory = 256
        /// GiB of each pod's scratch disk.
        var scratch = 10
        var cni: String?
        /// Pods have an interface "net1" beside "eth0", on a bridge of its own.
        var hasSecondInterface = false
        /// Whether pods have an IPv6 address as well.
        var hasIPv6 = false
        /// A program of this build in the place of swiftlet-vsockd.
        var vsockBackend: String?
        /// Lines of logs are for collectors as well.
        var collects = false
        /// Bytes of a log's file with which swiftlet-streamd rotates it.
        var logSize = 0
        /// Machines that wait for pods; they end with the daemon.
        var pool = 0
        /// Machines of further sizes: MiB, CPUs and number.
        var poolShapes: [(memory: Int, cpus: Int, size: Int)] = []
        /// The table images.disks, in TOML.
        var disks = ""
        /// The table host, in TOML.
        var host = ""
    }

    nonisolated let name: String
    nonisolated let root: String
    nonisolated let run: String
    nonisolated let endpoint: String
    nonisolated let environment: Environment
    /// The pods'.
    nonisolated let users = PodUserIDs()
    private let options: Options
    private var process: ChildProcess?
    private var connection: CRIConnection?

    init(_ name: String, options: Options = Options()) throws {
        environment = try Environment.current()
        self.name = name
        self.options = options
        root = "\(environment.scratch)/\(name)"
        run = "/run/\(environment.namespace)/\(name)"
        endpoint = "unix://\(run)/swiftletd.sock"
    }

    nonisolated var images: String { root + "/images" }
    nonisolated var logs: String { root + "/logs" }

    var cri: CRIConnection {
        get throws {
            guard let connection else { throw SwiftletError(.failedPrecondition, "node \(name) is not started") }
            return connection
        }
    }

    /// Writes the configuration and starts the daemon; returns when it serves.
    func start() async throws {
        for directory in [root, run, logs, root + "/net.d"] {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        }
        try configuration().write(toFile: root + "/swiftletd.toml", atomically: true, encoding: .utf8)
        try writeNetwork(options)
        try await launch()
    }

    /// Starts the daemon again over the same state.
    func launch() async throws {
        let process = ChildProcess()
        process.executableURL = URL(fileURLWithPath: environment.build + "/swiftletd")
        process.arguments = ["--config", root + "/swiftletd.toml", "--log-level", "debug"]
        if !FileManager.default.fileExists(atPath: daemonLog) { _ = FileManager.default.createFile(atPath: daemonLog, contents: nil) }
        let log = try FileHandle(forWritingTo: URL(fileURLWithPath: daemonLog))
        try log.seekToEnd()
        process.standardError = log
        process.standardOutput = log
        try process.run()
        self.process = process
        let connection = try CRIConnection(endpoint: endpoint)
        self.connection = connection
        let deadline = ContinuousClock.now + .seconds(60)
        while true {
            do {
                _ = try await connection.call(RuntimeRPC.version, CRIVersionRequest(), timeout: .seconds(2))
                return
            } catch {
                guard process.isRunning, ContinuousClock.now < deadline else {
                    throw SwiftletError(.unavailable, "swiftletd did not start: \(tail(daemonLog))", cause: error)
                }
                try await Task.sleep(for: .milliseconds(50))
            }
        }
    }

    /// The daemon's process; nil when it has ended.
    var daemon: Int32? { process.flatMap { $0.isRunning ? $0.processIdentifier : nil } }

    nonisolated var daemonLog: String { root + "/swiftletd.log" }

    /// Ends the daemon as an operator would.
    func stop() async {
        await connection?.close()
        connection = nil
        process?.terminate()
        await waitForEnd()
    }

    /// SIGKILL: pods must not notice.
    func kill() async {
        await connection?.close()
        connection = nil
        if let process { Glibc.kill(process.processIdentifier, SIGKILL) }
        await waitForEnd()
    }

    /// A daemon that does not end fails its test and holds up no other.
    private func waitForEnd(within limit: Duration = .seconds(60)) async {
        guard let process else { return }
        let pid = process.processIdentifier
        let killer = Task {
            try await Task.sleep(for: limit)
            Issue.record("swiftletd of node \(name) still runs \(limit.components.seconds) s after its end was asked for")
            Glibc.kill(pid, SIGKILL)
        }
        defer { killer.cancel() }
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            DispatchQueue.global().async {
                process.waitUntilExit()
                continuation.resume()
            }
        }
        self.process = nil
    }

    /// Removes all pods, ends the daemon and deletes its directories.
    func destroy() async {
        if let cri = try? cri {
            let pods = (try? await cri.call(RuntimeRPC.listPodSandbox, CRIListPodSandboxRequest()).items) ?? []
            for pod in pods { _ = try? await cri.call(RuntimeRPC.removePodSandbox, .with { $0.podSandboxID = pod.id }) }
        }
        await stop()
        await endStreamDaemon()
        // The plugin keeps its bridge; the next node's has the same address.
        for bridge in ["sw", "s2"] { _ = try? await Spawn("/sbin/ip", ["link", "delete", "\(bridge)-\(name)"]).run() }
        try? FileManager.default.removeItem(atPath: run)
        if ProcessInfo.processInfo.environment["SWIFTLET_KEEP"] == nil { try? FileManager.default.removeItem(atPath: root) }
    }

    private func configuration() -> String {
        """
        endpoint = "\(endpoint)"
        root = "\(root)"
        run = "\(run)"

        [machine]
        kernel = "\(options.kernel ?? environment.guest + "/vmlinuz")"
        initramfs = "\(options.initramfs ?? environment.guest + "/initramfs.img")"
        \(options.modules.map { "modules = \"\($0)\"" } ?? "")
        accelerator = "tcg"
        \(options.vsockBackend.map { "vsock_backend = \"\(environment.build)/\($0)\"" } ?? "")
        libvirt = "\(options.libvirt)"
        default_memory_mib = \(options.memory)
        scratch_size_gib = \(options.scratch)
        boot_timeout_seconds = \(options.bootTimeout)
        pod_uid_first = \(users.first)
        pod_uid_count = \(users.count)

        [pool]
        size = \(options.pool)
        drain = true
        \(options.poolShapes.map { "[[pool.shapes]]\nmemory_mib = \($0.memory)\ncpus = \($0.cpus)\nsize = \($0.size)" }.joined(separator: "\n"))

        [network]
        cni_config_dir = "\(root)/net.d"
        cni_plugin_dirs = ["\(root)/cni", "/usr/lib/cni"]

        [stream]
        address = "127.0.0.1:0"

        [logs]
        max_size = \(options.logSize)
        max_files = 20
        \(options.collects ? Self.collection(root) : "")

        \(options.disks)

        \(options.host)
        """
    }

    /// Where the lines of logs go; nobody is there until a test is.
    nonisolated var collectorSocket: String { root + "/collector.sock" }
    static let collectorPort: UInt16 = 4318

    private static func collection(_ root: String) -> String {
        """
        [logs.collection]
        socket = "\(root)/collector.sock"
        otlp_endpoint = "http://localhost:\(collectorPort)"
        """
    }

    nonisolated func tail(_ path: String) -> String {
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        return String(text.suffix(1500))
    }
}
