import Errors
import Glibc
import Linux
import Runtime

/// The control group of a container's processes, which the OCI runtime makes: the same in every hierarchy.
struct ContainerCgroup: Sendable {
    struct Directory: Codable, Sendable, Equatable {
        var path: String
        /// Whether it is of the unified hierarchy, cgroup v2.
        var isUnified: Bool
    }

    var directories: [Directory]

    /// Of a process of the container, in the hierarchies that are mounted.
    init(of process: ProcessIdentity, container: String, on cgroups: Cgroups) {
        let lines = KernelFile.text("/proc/\(process.pid)/cgroup")?.split(separator: "\n") ?? []
        directories = Self.directories(lines, container: container, cgroups)
        // Read before it was known whose it was.
        if !process.isAlive { directories = [] }
    }

    init(directories: [Directory]) { self.directories = directories }

    /// Only groups that carry the container's id: where the runtime makes none, the process is in one with others.
    static func directories(_ lines: [Substring], container: String, _ cgroups: Cgroups) -> [Directory] {
        var seen: Set<String> = []
        return lines.compactMap { line in
            // "4:memory:/kubepods/pod1/abc", cgroups(7).
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
            guard fields.count == 3, fields[2].contains(container) else { return nil }
            let name = fields[1].isEmpty ? "unified" : fields[1].hasPrefix("name=") ? String(fields[1].dropFirst(5)) : fields[1]
            let names = [name] + name.split(separator: ",").map(String.init)
            guard let mount = names.lazy.compactMap({ cgroups.hierarchies[$0] }).first, seen.insert(mount).inserted else { return nil }
            return Directory(path: mount + fields[2], isUnified: fields[1].isEmpty)
        }
    }

    /// As config.json names it.
    ///
    /// - Parameter parent: the pod's, as the kubelet has it; empty: Swiftlet's own.
    static func name(_ container: String, below parent: String, usesSystemd: Bool) -> String {
        guard usesSystemd else { return (parent.isEmpty ? "/swiftlet" : parent) + "/" + container }
        // slice:prefix:name, as runc and crun read it.
        let slice = parent.split(separator: "/").last.map(String.init) ?? "system.slice"
        return "\(slice):swiftlet:\(container)"
    }

    /// Where the runtime will make it, in the hierarchies that are mounted: known before a process is in it. Blocks.
    ///
    /// - Parameter parent: as for `name`.
    static func planned(_ container: String, below parent: String, usesSystemd: Bool, on cgroups: Cgroups) throws -> [Directory] {
        guard !usesSystemd else {
            let slice = parent.split(separator: "/").last.map(String.init) ?? "system.slice"
            return try ProcessCgroup(parent: slice, name: "swiftlet-\(container).scope", on: cgroups).directories.map(Directory.init)
        }
        let path = name(container, below: parent, usesSystemd: false)
        var seen: Set<String> = []
        return cgroups.hierarchies.sorted { $0.key < $1.key }.compactMap { hierarchy, mount in
            guard let resolved = realpath(mount, nil) else { return nil }
            defer { free(resolved) }
            let root = String(cString: resolved)
            return seen.insert(root).inserted ? Directory(path: root + path, isUnified: hierarchy == "unified") : nil
        }
    }

    private static let deepest = 16

    /// Numbers of the processes in it, and in groups that these have made.
    var processes: Set<Int32> { Set(directories.flatMap { Self.processes($0.path, depth: 0) }) }

    private static func processes(_ path: String, depth: Int) -> [Int32] {
        let own = KernelFile.text("\(path)/cgroup.procs", limit: 1 << 20)?.split(separator: "\n").compactMap { Int32($0) } ?? []
        guard depth < deepest else { return own }
        return own + groups(in: path).flatMap { processes($0, depth: depth + 1) }
    }

    /// A group's own files are no directories.
    private static func groups(in path: String) -> [String] {
        let names = (try? KernelFile.names(in: path)) ?? []
        return names.map { "\(path)/\($0)" }.filter { path in
            var status = stat()
            return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
        }
    }

    /// Sends a signal to all of its processes.
    func signal(_ number: Int32) {
        for pid in processes { _ = try? ProcessIdentity.of(pid)?.signal(number) }
    }

    /// Kills its processes until none is left. Blocks.
    ///
    /// - Throws: `.unavailable` naming those that do not end.
    func end(within limit: Duration) throws {
        let deadline = ContinuousClock.now + limit
        while case let left = processes, !left.isEmpty {
            for pid in left { ProcessIdentity.of(pid)?.kill() }
            guard ContinuousClock.now < deadline else {
                throw SwiftletError(.unavailable, "processes \(left.sorted()) do not end on SIGKILL")
            }
            usleep(5_000)
        }
    }

    /// Removes what is left of it, with groups that its processes have made. Blocks.
    func remove() throws {
        for directory in directories { try Self.remove(directory.path, depth: 0) }
    }

    private static func remove(_ path: String, depth: Int) throws {
        let deadline = ContinuousClock.now + .seconds(1)
        while rmdir(path) != 0, errno != ENOENT {
            let number = errno
            guard number == EBUSY || number == ENOTEMPTY, ContinuousClock.now < deadline else {
                throw SwiftletError.system("remove control group \(path)", errno: number)
            }
            if depth < deepest { for group in groups(in: path) { try remove(group, depth: depth + 1) } }
            usleep(5_000)
        }
    }
}

extension ProcessCgroup {
    /// Of a process that serves a pod on the node, beside the containers': it belongs to the pod, not to the daemon. Blocks.
    static func serving(_ spec: SandboxSpec, _ name: String, usesSystemd: Bool, on cgroups: Cgroups) throws -> ProcessCgroup {
        let parent = spec.cgroupParent.isEmpty ? (usesSystemd ? "system.slice" : "/") : spec.cgroupParent
        return try ProcessCgroup(parent: parent, name: name, on: cgroups)
    }
}

extension ContainerCgroup.Directory {
    init(_ directory: ProcessCgroup.Directory) { self.init(path: directory.path, isUnified: directory.isUnified) }
}
