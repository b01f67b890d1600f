import Errors
import Glibc

/// A control group for some processes: the same path in every hierarchy that the machine has.
public struct ProcessCgroup: Sendable, Codable, Equatable {
    public struct Directory: Sendable, Codable, Equatable {
        public var path: String
        /// Whether it is of the unified hierarchy, cgroup v2.
        public var isUnified: Bool
    }

    /// One for each hierarchy.
    public let directories: [Directory]
    /// Directories above them that were not there before, the upper ones first.
    public let parents: [Directory]
    /// Groups of libvirt's that its machine was taken out of. A libvirt that was restarted no longer finds the machine in them
    /// and leaves them behind.
    public var emptied: [String] = []

    /// Hierarchies that belong to others: systemd's own has no resources, and libvirt's rules about a machine's devices are
    /// bound to the group it made.
    private static let foreign: Set<String> = ["systemd", "devices"]

    /// Chooses the directories; makes none.
    ///
    /// - Parameters:
    ///   - parent: an absolute path, or the name of a systemd slice, which stands below the slices its dashes name.
    ///   - name: one path component.
    /// - Throws: `.invalidArgument` for a parent that is neither.
    public init(parent: String, name: String, on cgroups: Cgroups) throws(SwiftletError) {
        let path = try Self.path(ofParent: parent)
        var directories: [Directory] = []
        var parents: [Directory] = []
        // "cpu" and "cpuacct" may be names of one hierarchy.
        var seen: Set<String> = []
        for (hierarchy, mount) in cgroups.hierarchies.sorted(by: { $0.key < $1.key }) where !Self.foreign.contains(hierarchy) {
            guard let resolved = realpath(mount, nil) else { continue }
            let root = String(cString: resolved)
            free(resolved)
            guard seen.insert(root).inserted else { continue }
            var above = root
            for component in path {
                above += "/\(component)"
                if access(above, F_OK) != 0 { parents.append(Directory(path: above, isUnified: hierarchy == "unified")) }
            }
            directories.append(Directory(path: "\(above)/\(name)", isUnified: hierarchy == "unified"))
        }
        self.directories = directories
        self.parents = parents
    }

    /// The components below a hierarchy's root.
    static func path(ofParent parent: String) throws(SwiftletError) -> [String] {
        let slashed = parent.split(separator: "/").map(String.init)
        guard !slashed.contains("."), !slashed.contains(".."), !parent.utf8.contains(0) else {
            throw SwiftletError(.invalidArgument, "control group \(parent.debugDescription) contains a dot component")
        }
        if parent.hasPrefix("/") { return slashed }
        // systemd.slice(5): "a-b.slice" lies in "a.slice"; "-.slice" is the root.
        let suffix = ".slice"
        guard slashed.count == 1, parent.hasSuffix(suffix) else {
            throw SwiftletError(
                .invalidArgument, "control group \(parent.debugDescription) is neither an absolute path nor a systemd slice")
        }
        if parent == "-.slice" { return [] }
        let parts = parent.dropLast(suffix.count).split(separator: "-", omittingEmptySubsequences: false)
        guard parts.allSatisfy({ !$0.isEmpty }) else {
            throw SwiftletError(.invalidArgument, "slice \(parent.debugDescription) has an empty part between its dashes")
        }
        return parts.indices.map { parts[...$0].joined(separator: "-") + suffix }
    }

    // MARK: Life

    /// Makes what is missing. Idempotent.
    public func create() throws(SwiftletError) {
        for directory in parents { try Self.make(directory) }
        for directory in directories {
            try Self.make(directory)
            // Memory that a process has touched before it joins stays with the group it came from, unless v1 is configured to move it.
            if !directory.isUnified { _ = try? KernelFile.write("3", to: "\(directory.path)/memory.move_charge_at_immigrate") }
        }
    }

    private static func make(_ directory: Directory) throws(SwiftletError) {
        let (path, above) = (directory.path, String(directory.path[..<(directory.path.lastIndex(of: "/") ?? directory.path.endIndex)]))
        if directory.isUnified {
            // One by one: a controller that cannot be handed down must not take the others along.
            let controllers = KernelFile.text("\(above)/cgroup.controllers")?.split { $0 == " " || $0 == "\n" } ?? []
            for controller in controllers { _ = try? KernelFile.write("+\(controller)", to: "\(above)/cgroup.subtree_control") }
        }
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw .system("making control group \(path)") }
        // A new group of v1's cpuset has no CPU and no memory node, and takes no process.
        for file in ["cpuset.cpus", "cpuset.mems"] where !directory.isUnified {
            guard let own = KernelFile.text("\(path)/\(file)"), own.allSatisfy({ $0 == "\n" }),
                let inherited = KernelFile.text("\(above)/\(file)")
            else {
                continue
            }
            try KernelFile.write(inherited, to: "\(path)/\(file)")
        }
    }

    /// Moves a process with all its threads in; one that is in already is no error.
    ///
    /// - Throws: `.notFound` when the process or the group is gone.
    public func place(_ process: ProcessIdentity) throws(SwiftletError) {
        for directory in directories {
            guard process.isAlive else { throw SwiftletError(.notFound, "process \(process.pid) has ended") }
            try KernelFile.write("\(process.pid)", to: "\(directory.path)/cgroup.procs")
        }
    }

    /// Numbers of the processes in it.
    public var processes: Set<Int32> {
        Set(directories.flatMap { KernelFile.text("\($0.path)/cgroup.procs")?.split(separator: "\n").compactMap { Int32($0) } ?? [] })
    }

    /// Removes the group when its processes have ended, and those above it that it made and nobody else uses. Idempotent.
    /// Waits at most two seconds for processes that are ending: never on the cooperative pool.
    ///
    /// - Throws: `.failedPrecondition` when processes are left.
    public func remove() throws(SwiftletError) {
        let deadline = ContinuousClock.now + .seconds(2)
        for directory in directories {
            while rmdir(directory.path) != 0, errno != ENOENT {
                let number = errno
                guard number == EBUSY else { throw .system("removing control group \(directory.path)", errno: number) }
                guard ContinuousClock.now < deadline else {
                    throw SwiftletError(.failedPrecondition, "control group \(directory.path) still holds processes \(processes.sorted())")
                }
                usleep(10_000)
            }
        }
        for directory in parents.reversed() { rmdir(directory.path) }
        for path in emptied { Self.removeEmpty(path, depth: 0) }
    }

    /// Removes a group with those in it; one with processes stays.
    private static func removeEmpty(_ path: String, depth: Int) {
        guard rmdir(path) != 0, errno == EBUSY || errno == ENOTEMPTY, depth < 4 else { return }
        // The group's own files are no directories, and stay.
        for name in (try? KernelFile.names(in: path)) ?? [] { removeEmpty("\(path)/\(name)", depth: depth + 1) }
        rmdir(path)
    }

    /// The directories of libvirt's own group that a machine's process is in now, of every hierarchy that `place` takes it from.
    public static func machineGroups(of process: ProcessIdentity, on cgroups: Cgroups) -> [String] {
        let lines = KernelFile.text("/proc/\(process.pid)/cgroup")?.split(separator: "\n") ?? []
        return lines.compactMap { line in
            // "4:memory:/machine/qemu-1-name.libvirt-qemu/emulator", cgroups(7).
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
            guard fields.count == 3 else { return nil }
            let names = fields[1].isEmpty ? ["unified"] : [fields[1]] + fields[1].split(separator: ",").map(String.init)
            let components = fields[2].split(separator: "/")
            guard let mount = names.lazy.compactMap({ cgroups.hierarchies[$0] }).first, foreign.isDisjoint(with: names),
                let own = components.firstIndex(where: { $0.hasSuffix(".libvirt-qemu") })
            else { return nil }
            return mount + "/" + components[...own].joined(separator: "/")
        }
    }

    // MARK: Limits

    /// Sets limits in the hierarchies that have them.
    ///
    /// - Returns: whether all are set. cgroup v1 takes no CPU quota beyond that of a group above, which holds as well until it is raised:
    ///   the group has none of its own then.
    @discardableResult
    public func apply(_ limits: CgroupLimits) throws(SwiftletError) -> Bool {
        var isWhole = true
        for directory in directories {
            for (file, value) in directory.isUnified ? limits.unifiedFiles : limits.legacyFiles {
                let path = "\(directory.path)/\(file)"
                guard access(path, F_OK) == 0 else { continue }
                do throws(SwiftletError) {
                    try KernelFile.write(value, to: path)
                } catch {
                    guard !directory.isUnified, file == "cpu.cfs_quota_us", error.systemErrno == EINVAL else { throw error }
                    isWhole = false
                }
            }
        }
        return isWhole
    }

    /// A group's limit of memory.
    public struct MemoryLimit: Sendable, Equatable {
        public var bytes: UInt64
        /// The group's directory.
        public var group: String

        public init(bytes: UInt64, group: String) {
            self.bytes = bytes
            self.group = group
        }
    }

    /// The least limit of memory of the groups above it; nil when none has one.
    public var memoryAbove: MemoryLimit? {
        var least: MemoryLimit?
        for directory in directories {
            let file = directory.isUnified ? "memory.max" : "memory.limit_in_bytes"
            var path = directory.path
            while let slash = path.lastIndex(of: "/"), slash > path.startIndex {
                path = String(path[..<slash])
                // cgroup v1 says "no limit" by the largest number of whole pages.
                guard let text = KernelFile.text("\(path)/\(file)"), let bytes = UInt64(text.prefix { $0 != "\n" }), bytes < 1 << 62
                else { continue }
                if bytes < least?.bytes ?? .max { least = MemoryLimit(bytes: bytes, group: path) }
            }
        }
        return least
    }

    /// How many of its processes the kernel has killed for lack of memory, whoever's limit it was.
    public var memoryKills: UInt64 {
        directories.reduce(0) { sum, directory in
            let lines = KernelFile.text("\(directory.path)/\(directory.isUnified ? "memory.events" : "memory.oom_control")") ?? ""
            let count = lines.split(separator: "\n").first { $0.hasPrefix("oom_kill ") }.flatMap { UInt64($0.dropFirst("oom_kill ".count)) }
            return sum + (count ?? 0)
        }
    }
}

/// Limits of a control group, by either version's files. Nil: none.
public struct CgroupLimits: Sendable, Codable, Equatable {
    /// Bytes.
    public var memory: UInt64?
    /// Microseconds of CPU time in a period, and the period.
    public var cpuQuota: Int64?
    public var cpuPeriod: Int64
    /// cgroup v1's weight, 2 to 262144, and v2's, 1 to 10000.
    public var cpuShares: Int64?
    public var cpuWeight: Int64?

    public init(memory: UInt64? = nil, cpuQuota: Int64? = nil, cpuPeriod: Int64 = 100_000, cpuShares: Int64? = nil, cpuWeight: Int64? = nil)
    {
        self.memory = memory
        self.cpuQuota = cpuQuota
        self.cpuPeriod = cpuPeriod
        self.cpuShares = cpuShares
        self.cpuWeight = cpuWeight
    }

    var unifiedFiles: [(String, String)] {
        [
            ("cpu.max", "\(cpuQuota.map(String.init) ?? "max") \(cpuPeriod)"), ("memory.max", memory.map { "\($0)" } ?? "max"),
            ("cpu.weight", cpuWeight.map(String.init)),
        ].compactMap { file, value in value.map { (file, $0) } }
    }

    var legacyFiles: [(String, String)] {
        [
            // The quota goes first: the kernel checks each pair against the parent's.
            ("cpu.cfs_quota_us", "-1"), ("cpu.cfs_period_us", "\(cpuPeriod)"), ("cpu.cfs_quota_us", "\(cpuQuota ?? -1)"),
            ("memory.limit_in_bytes", memory.map { "\($0)" } ?? "-1"), ("cpu.shares", cpuShares.map(String.init)),
        ].compactMap { file, value in value.map { (file, $0) } }
    }
}
