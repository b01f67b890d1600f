import CRI
import Foundation
import Glibc
import Linux

/// Directories of the node for one test to mount, outside of the node's own.
struct Volumes {
    let directory: String

    init(_ node: Node) throws {
        directory = "\(node.environment.scratch)/volumes-\(UInt32.random(in: 0 ... .max))"
        for name in ["data/below", "config", "secret", "shared"] { try self.directory(name) }
        try write("data/below/file", "below\n")
        try write("data/owned", "")
        chown(path("data/owned"), 1234, 4321)
        chmod(path("data/owned"), 0o640)
        try write("etc-hosts", "10.0.0.1 kubelet\n")
        try write("log", "")
        try write("secret/token", "token\n")
        try write("outside", "of every mount\n")
        mknod(path("data/node-null"), S_IFCHR | 0o666, 1 << 8 | 3)
        mknod(path("data/socket"), S_IFSOCK | 0o666, 0)
        mkfifo(path("pipe"), 0o666)
        try FileManager.default.createSymbolicLink(atPath: path("link-to-data"), withDestinationPath: "data")
        try FileManager.default.createSymbolicLink(atPath: path("dangling"), withDestinationPath: "nowhere")
        try swapConfig(to: 1)
        try FileManager.default.createSymbolicLink(atPath: path("config/key"), withDestinationPath: "..data/key")
        // As a kubelet's directories are: a mount that passes on what is mounted in it.
        _ = try Spawn("/bin/mount", ["--bind", path("shared"), path("shared")]).runAndWait()
        _ = try Spawn("/bin/mount", ["--make-rshared", path("shared")]).runAndWait()
        // A kubelet's way of a subPath: what it found there, mounted where nobody can change it.
        try self.directory("sub-path/0")
        try write("sub-path/1", "")
        _ = try Spawn("/bin/mount", ["--bind", path("data/below"), path("sub-path/0")]).runAndWait()
        _ = try Spawn("/bin/mount", ["--bind", path("secret/token"), path("sub-path/1")]).runAndWait()
    }

    func path(_ name: String) -> String { "\(directory)/\(name)" }

    func directory(_ name: String) throws {
        try FileManager.default.createDirectory(atPath: path(name), withIntermediateDirectories: true)
    }

    private func write(_ name: String, _ text: String) throws {
        try text.write(toFile: path(name), atomically: false, encoding: .utf8)
    }

    func replace(_ name: String, _ text: String) throws {
        try text.write(toFile: path(name), atomically: true, encoding: .utf8)
    }

    func read(_ name: String) -> String? { try? String(contentsOfFile: path(name), encoding: .utf8) }

    func status(_ name: String) -> stat? {
        var status = stat()
        return lstat(path(name), &status) == 0 ? status : nil
    }

    /// A kubelet's atomic writer: a directory for the new content, then a rename of the link that leads to it.
    func swapConfig(to version: Int) throws {
        try directory("config/..\(version)")
        try write("config/..\(version)/key", "\(version)\n")
        try FileManager.default.createSymbolicLink(atPath: path("config/..data_tmp"), withDestinationPath: "..\(version)")
        rename(path("config/..data_tmp"), path("config/..data"))
        if version > 1 { try FileManager.default.removeItem(atPath: path("config/..\(version - 1)")) }
    }

    func mountTmpfs(_ name: String, options: String = "size=1m") async throws {
        try directory(name)
        try await Spawn("/bin/mount", ["-t", "tmpfs", "-o", options, "tmpfs", path(name)]).check()
    }

    func remove() throws {
        for mount in try MountedPaths.all().reversed() where mount.hasPrefix(directory + "/") { umount2(mount, Int32(MNT_DETACH)) }
        try FileManager.default.removeItem(atPath: directory)
    }

    /// The virtiofsd processes of a node's pods: two for each share.
    static func servers(_ node: Node) -> Set<pid_t> {
        Set(ProcessTable.all(of: ProcessTable.users()) { $0.contains { $0.hasPrefix("source=\(node.run)/") } }.map(\.pid))
    }
}

extension CRIMount {
    static func host(_ path: String, _ destination: String, _ change: (inout CRIMount) -> Void = { _ in }) -> CRIMount {
        .with {
            $0.hostPath = path
            $0.containerPath = destination
            change(&$0)
        }
    }

    static func image(_ image: String, _ destination: String, _ change: (inout CRIMount) -> Void = { _ in }) -> CRIMount {
        .with {
            $0.image.image = image
            $0.containerPath = destination
            $0.readonly = true
            change(&$0)
        }
    }
}
