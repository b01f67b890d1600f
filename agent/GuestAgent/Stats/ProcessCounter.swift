import AgentProtocol
import CLinux
import Glibc

/// Counts the processes of a cgroup and of those below it.
struct ProcessCounter {
    /// Cgroups, processes and open files looked at; what a container has beyond is not counted.
    private static let mostCgroups = 256
    private static let mostProcesses = 4096
    private static let mostFiles = 16384

    private(set) var processes: [pid_t] = []
    private var cgroups = 0

    init(cgroup: String) {
        add(cgroup)
    }

    private mutating func add(_ path: String) {
        guard cgroups < Self.mostCgroups, processes.count < Self.mostProcesses else { return }
        cgroups += 1
        let list = Files.text("\(path)/cgroup.procs", limit: 64 << 10) ?? ""
        processes += list.split(separator: "\n").compactMap { pid_t($0) }
        let descendants = Files.text("\(path)/cgroup.stat", limit: 4096)?.split(separator: "\n") ?? []
        guard descendants.contains(where: { $0.hasPrefix("nr_descendants ") && $0 != "nr_descendants 0" }) else { return }
        for name in Self.directories(path) { add("\(path)/\(name)") }
    }

    /// Names of directories in a directory.
    private static func directories(_ path: String) -> [String] {
        guard let stream = opendir(path) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while names.count < mostCgroups, let entry = readdir(stream) {
            let name = String(cString: clinux_entry_name(entry))
            if entry.pointee.d_type == UInt8(DT_DIR), name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    /// Open files of all processes, and how many of them are sockets.
    func openFiles() -> (files: UInt64, sockets: UInt64) {
        var (files, sockets): (UInt64, UInt64) = (0, 0)
        for process in processes {
            guard files < UInt64(Self.mostFiles) else { break }
            guard let stream = opendir("/proc/\(process)/fd") else { continue }
            defer { closedir(stream) }
            while files < UInt64(Self.mostFiles), let entry = readdir(stream) {
                let name = String(cString: clinux_entry_name(entry))
                guard name != ".", name != ".." else { continue }
                files += 1
                if Self.isSocket(stream, name) { sockets += 1 }
            }
        }
        return (files, sockets)
    }

    /// The link of a socket reads "socket:[inode]".
    private static func isSocket(_ directory: OpaquePointer, _ name: String) -> Bool {
        var target = [CChar](repeating: 0, count: 8)
        let count = readlinkat(dirfd(directory), name, &target, 7)
        return count == 7 && target.prefix(7).elementsEqual("socket:".utf8.map { CChar($0) })
    }
}
