import CLinux
import Glibc
import Linux

/// Another process's sockets, held open: whoever is at their other ends does not see them close with that process.
struct HeldSockets {
    /// QEMU has about ten; one that belongs to an intruder may have any number.
    private static let most = 64

    private var descriptors: [Int32] = []

    /// What cannot be had is left out. Blocks.
    init(of process: ProcessIdentity) {
        let pidfd = clinux_pidfd_open(process.pid, 0)
        guard pidfd >= 0 else { return }
        defer { Glibc.close(pidfd) }
        // The descriptor is pinned to one process; only now does the start time say which.
        guard process.isAlive else { return }
        let directory = "/proc/\(process.pid)/fd"
        for name in (try? KernelFile.names(in: directory)) ?? [] where Self.isSocket("\(directory)/\(name)") {
            guard descriptors.count < Self.most else { return }
            guard let number = Int32(name) else { continue }
            let held = clinux_pidfd_getfd(pidfd, number)
            if held >= 0 { descriptors.append(held) }
        }
    }

    private static func isSocket(_ path: String) -> Bool {
        var target = [CChar](repeating: 0, count: 16)
        let count = readlink(path, &target, target.count)
        return count > 0 && target.map(UInt8.init(bitPattern:)).starts(with: "socket:[".utf8)
    }

    func close() { for descriptor in descriptors { Glibc.close(descriptor) } }
}
