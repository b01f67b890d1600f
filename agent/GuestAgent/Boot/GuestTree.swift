import CLinux
import Errors
import Glibc
import Linux

/// The guest's own file tree and cgroups.
enum GuestTree {
    /// Mounts what the kernel offers and moves off the agent's disk, which is read-only (and off rootfs, out of which pivot_root cannot lead). /proc and /dev are mounted
    /// before main. Failures are written; what needs the mount fails by itself.
    static func mount(_ console: Console) {
        attempt(console, changeRoot)
        for mount in filesystems {
            attempt(console) { try Mounts.mount(mount.type, mount.type, at: mount.directory, flags: mount.flags, options: mount.options) }
        }
        ContainerCgroup.delegateControllers(of: cgroups)
        attempt(console, GuestGrowth.useMemoryAtOnce)
        attempt(console, ModuleRequest.forbid)
        // The kernel must never choose the agent when memory is short.
        attempt(console) { try Files.write("-1000", to: "/proc/self/oom_score_adj") }
    }

    private static let filesystems: [(type: String, directory: String, flags: Mounts.Flags, options: String)] = [
        ("sysfs", "/sys", [.noSetUserID, .noDevices, .noExecution], ""),
        ("cgroup2", cgroups, [.noSetUserID, .noDevices, .noExecution], ""),
        ("devpts", "/dev/pts", [.noSetUserID, .noExecution], "gid=5,mode=620,ptmxmode=666"),
        ("tmpfs", "/dev/shm", [.noSetUserID, .noDevices], "mode=1777"),
        ("tmpfs", "/run", [.noSetUserID, .noDevices], "mode=755"),
        ("tmpfs", "/tmp", [.noSetUserID, .noDevices], "mode=1777"),
    ]

    private static let cgroups = "/sys/fs/cgroup"

    private static func attempt(_ console: Console, _ step: () throws -> Void) {
        do { try step() } catch { console.write("\(error)") }
    }

    /// A tmpfs takes the place of the agent's disk.
    private static func changeRoot() throws {
        let root = "/newroot"
        try Mounts.mount("tmpfs", "tmpfs", at: root, options: "mode=755")
        for directory in ["proc", "dev"] {
            try Files.makeDirectory("\(root)/\(directory)")
            try Mounts.move("/\(directory)", to: "\(root)/\(directory)")
        }
        guard chdir(root) == 0 else { throw SwiftletError.system("entering the new root") }
        try Mounts.move(".", to: "/")
        guard chroot(".") == 0, chdir("/") == 0 else { throw SwiftletError.system("changing the root") }
        // Containers get mount namespaces of their own, whose mounts must not come back here.
        guard clinux_mount("none", "/", "", UInt(CLINUX_MS_PRIVATE_RECURSIVE), "") == 0 else {
            throw SwiftletError.system("making mounts private")
        }
    }
}
