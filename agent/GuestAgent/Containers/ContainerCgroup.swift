import CContainer
import CLinux
import Errors
import Glibc
import Linux
import Synchronization

/// A container's cgroup v2: "<cgroup root>/swiftlet/<container id>".
final class ContainerCgroup: Sendable {
    let path: String
    /// The directory, for clone3's CLONE_INTO_CGROUP.
    let directory: OwnedDescriptor
    private let changes = Mutex(())

    /// The directory of all containers' cgroups below the guest's root.
    static let parentName = "swiftlet"

    /// Makes the cgroup and writes `files` as they are.
    /// - Throws: `.alreadyExists`; `.failedPrecondition` when the kernel has no such file, so no such controller.
    init(parent: String, id: String, files: [String: String]) throws(SwiftletError) {
        path = "\(parent)/\(id)"
        guard try makeDirectory(path) else {
            throw SwiftletError(.alreadyExists, "cgroup \(path) is in use: remove the container of that name first")
        }
        do throws(SwiftletError) {
            directory = try OwnedDescriptor(result: open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open cgroup \(path)")
            for (name, value) in files.sorted(by: { $0.key < $1.key }) { try Self.write(value, to: name, of: path) }
        } catch {
            rmdir(path)
            throw error
        }
    }

    /// - Throws: `.invalidArgument` for anything but the name of a controller's file.
    static func requireFileName(_ name: String) throws(SwiftletError) {
        guard isPlainWord(name, limit: 64), name.contains("."), !name.hasPrefix("cgroup.") || name.hasPrefix("cgroup.max.") else {
            throw SwiftletError(.invalidArgument, "cgroup file \"\(printable(name))\" is no limit of a controller, as \"memory.max\" is")
        }
    }

    /// Makes the common parent and hands every controller that the machine has down to the containers.
    static func makeParent(root: String) throws(SwiftletError) -> String {
        let parent = "\(root)/\(parentName)"
        try makeDirectory(parent)
        for directory in [root, parent] { delegateControllers(of: directory) }
        AgentReserve.current().apply(to: parent)
        return parent
    }

    /// Hands the controllers of a cgroup down to those below it.
    static func delegateControllers(of directory: String) {
        let control = "\(directory)/cgroup.subtree_control"
        let available = KernelFile.text("\(directory)/cgroup.controllers")?.split { $0 == " " || $0 == "\n" } ?? []
        let enabled = KernelFile.text(control)?.split { $0 == " " || $0 == "\n" } ?? []
        let missing = available.filter { !enabled.contains($0) }.map { "+\($0)" }
        guard !missing.isEmpty else { return }
        // All at once: each write costs an emulated guest milliseconds.
        do {
            try KernelFile.write(missing.joined(separator: " "), to: control)
        } catch {
            // One by one: a controller that cannot be delegated must not take the others along.
            for controller in missing { try? KernelFile.write(controller, to: control) }
        }
    }

    static func write(_ value: String, to name: String, of path: String) throws(SwiftletError) {
        do {
            try KernelFile.write(value, to: "\(path)/\(name)")
        } catch {
            guard error.systemErrno == ENOENT else { throw error.during("set \(name) to \"\(printable(value))\"") }
            throw SwiftletError(.failedPrecondition, "the kernel has no \(name) for \(path): its controller is missing", cause: error)
        }
    }

    /// Changes limits: all, or none. One change at a time.
    func change(_ files: [String: String]) throws(SwiftletError) {
        try changes.withLock { (_) throws(SwiftletError) in try CgroupChange(path: path, files: files).apply() }
    }

    /// SIGKILL to every process, also to those that are being cloned.
    func killAll() throws(SwiftletError) { try KernelFile.write("1", to: "\(path)/cgroup.kill") }

    /// Sends `signal` to each process that is in the cgroup now. One that ends meanwhile is no error.
    func signalAll(_ signal: Int32) throws(SwiftletError) {
        guard let list = KernelFile.text("\(path)/cgroup.procs", limit: 1 << 20) else { return }
        for line in list.split(separator: "\n") {
            guard let pid = pid_t(line), pid > 0 else { continue }
            let opened = cc_pidfd_open(pid)
            guard opened >= 0 else { continue }
            let process = OwnedDescriptor(opened)
            // The pid may have gone to another process between the list and here; the descriptor now holds it still.
            guard contains(pid) else { continue }
            if cc_signal(process.number, signal) < 0 && errno != ESRCH {
                let number = errno
                throw .system("signal \(signal) to process \(pid)", errno: number)
            }
        }
    }

    private func contains(_ pid: pid_t) -> Bool {
        let name = path.split(separator: "/").suffix(2).joined(separator: "/")
        let membership = KernelFile.text("/proc/\(pid)/cgroup") ?? ""
        return membership.split(separator: "\n").contains { $0.hasPrefix("0::") && ($0.hasSuffix("/" + name) || $0.contains("/\(name)/")) }
    }

    /// How often the kernel killed a process of the cgroup for lack of memory; 0 without a memory controller.
    var oomKillCount: UInt64 {
        for line in KernelFile.text("\(path)/memory.events")?.split(separator: "\n") ?? [] where line.hasPrefix("oom_kill ") {
            return UInt64(line.dropFirst("oom_kill ".count)) ?? 0
        }
        return 0
    }

    /// Waits until no process is left, at most about ten seconds. - Returns: whether it is empty.
    func waitUntilEmpty() -> Bool {
        let descriptor = open("\(path)/cgroup.events", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return true }
        let events = OwnedDescriptor(descriptor)
        // Counted rounds instead of a deadline: the guest's clock jumps.
        for _ in 0..<100 {
            guard let bytes = SmallFile.read(events.number, limit: 4096) else { return true }
            if !String(decoding: bytes, as: UTF8.self).contains("populated 1") { return true }
            var waited = pollfd(fd: events.number, events: Int16(POLLPRI), revents: 0)
            poll(&waited, 1, 100)
        }
        return false
    }

    /// Removes the cgroup and those that the container made in it. - Returns: whether nothing is left.
    func remove() -> Bool { Self.remove(path, depth: 0) }

    private static func remove(_ path: String, depth: Int) -> Bool {
        if rmdir(path) == 0 || errno == ENOENT { return true }
        guard depth < 32, let stream = opendir(path) else { return false }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            let name = String(cString: clinux_entry_name(entry))
            guard name != ".", name != "..", entry.pointee.d_type == UInt8(DT_DIR) else { continue }
            guard remove("\(path)/\(name)", depth: depth + 1) else { return false }
        }
        return rmdir(path) == 0
    }
}
