import CLinux
import Errors
import Glibc

/// How the machine's control groups are mounted.
public struct Cgroups: Sendable, Equatable {
    public enum Layout: Sendable, Equatable {
        /// One unified hierarchy.
        case v2
        /// A hierarchy per controller.
        case v1
        /// As v1, and an empty v2 hierarchy beside them at "unified".
        case hybrid
    }

    public let layout: Layout
    /// Every hierarchy's mount point, by controller name; the v2 one under "unified".
    public let hierarchies: [String: String]

    /// - Throws: `failedPrecondition` when no control groups are mounted at `root`.
    public static func detect(root: String = "/sys/fs/cgroup") throws -> Cgroups {
        if isUnified(root) { return Cgroups(layout: .v2, hierarchies: ["unified": root]) }
        var hierarchies: [String: String] = [:]
        for name in try KernelFile.names(in: root) where !name.hasPrefix(".") {
            let path = "\(root)/\(name)"
            // "cpu" and "cpuacct" may be links to "cpu,cpuacct"; every hierarchy has a tasks file, or is the v2 one.
            if access("\(path)/tasks", F_OK) == 0 || isUnified(path) { hierarchies[name] = path }
        }
        guard !hierarchies.isEmpty else {
            throw SwiftletError(.failedPrecondition, "no control groups are mounted at \(root); mount cgroup2 there")
        }
        let hybrid = hierarchies["unified"].map(isUnified) ?? false
        return Cgroups(layout: hybrid ? .hybrid : .v1, hierarchies: hierarchies)
    }

    private static func isUnified(_ path: String) -> Bool { clinux_filesystem_magic(path) == Int(CLINUX_CGROUP2_SUPER_MAGIC) }
}
