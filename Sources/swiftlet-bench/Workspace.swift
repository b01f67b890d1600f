import Foundation

/// The directories of one run. Nothing is written outside them.
struct Workspace: Sendable {
    /// State, images, logs.
    let root = "/tmp/swiftlet-bench"
    /// Sockets. Short, because a socket's path must stay under 108 bytes.
    let run = "/run/swiftlet-bench"

    /// What containers get from the node.
    var programs: String { root + "/programs" }
    var logs: String { root + "/logs" }
    /// What both runtimes are given.
    var cniConfiguration: String { root + "/net.d" }
    let cniPlugins = "/usr/lib/cni"
    /// Control group of containerd's containers, below every hierarchy's root.
    let cgroup = "/swiftlet-bench"

    func create() throws {
        remove()
        for directory in [root, run] {
            // QEMU's user must be able to pass through.
            try FileManager.default.createDirectory(
                atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o711])
        }
        for directory in [logs, cniConfiguration] {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        }
        try network.write(toFile: cniConfiguration + "/10-bench.conflist", atomically: true, encoding: .utf8)
    }

    func remove() {
        for directory in [root, run] { try? FileManager.default.removeItem(atPath: directory) }
    }

    /// Debian's bridge, host-local and portmap plugins.
    private var network: String {
        """
        {"cniVersion": "1.0.0", "name": "bench", "plugins": [
          {"type": "bridge", "bridge": "sw-bench", "isGateway": true, "ipMasq": false, "hairpinMode": true,
           "ipam": {"type": "host-local", "dataDir": "\(root)/ipam", "ranges": [[{"subnet": "10.88.0.0/16"}]],
                    "routes": [{"dst": "0.0.0.0/0"}]}},
          {"type": "portmap", "capabilities": {"portMappings": true}}
        ]}
        """
    }
}
