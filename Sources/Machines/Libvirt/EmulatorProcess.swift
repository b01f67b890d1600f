import Glibc
import Linux

/// Finds the QEMU of a machine without libvirt's help.
struct EmulatorProcess {
    /// Directories with libvirt's pid files.
    let pidDirectories: [String]
    /// Whom machines with users of their own run as.
    let users: UserRange?

    /// The QEMU process that runs this machine.
    ///
    /// libvirt has no call that returns the process. Its pid file does; where that is out of reach (another mount
    /// namespace, a daemon's other directory), the command lines do.
    func find(_ id: MachineID, name: String?) -> ProcessIdentity? {
        if let name, MachineSpec.isName(name, longest: 255) {
            for directory in pidDirectories {
                guard let text = KernelFile.bytes("\(directory)/\(name).pid", limit: 32) else { continue }
                let digits = String(decoding: text.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }, as: UTF8.self)
                if let pid = Int32(digits), let process = Self.identity(pid, of: id) { return process }
            }
        }
        return search(id)
    }

    private func search(_ id: MachineID) -> ProcessIdentity? {
        let argument = id.description
        let running = ProcessTable.all(of: ProcessTable.users("libvirt-qemu"), and: users) { Self.isFor(argument, $0) }
        return running.first { Self.isHostProgram($0.pid) && $0.isAlive }
    }

    private static func isFor(_ uuid: String, _ arguments: [String]) -> Bool {
        guard let flag = arguments.firstIndex(of: "-uuid"), flag + 1 < arguments.count else { return false }
        return arguments[flag + 1] == uuid
    }

    /// The process, if it is a QEMU that was started with this UUID. A process in a container could pretend to be, so
    /// its program must be one that this machine's own root sees.
    private static func identity(_ pid: Int32, of id: MachineID) -> ProcessIdentity? {
        guard let process = ProcessIdentity.of(pid), let arguments = ProcessTable.arguments(of: pid),
            isFor(id.description, arguments), isHostProgram(pid), process.isAlive
        else { return nil }
        return process
    }

    /// Whether the process runs a QEMU that is the same file under its path here.
    private static func isHostProgram(_ pid: Int32) -> Bool {
        var (running, ours) = (stat(), stat())
        guard stat("/proc/\(pid)/exe", &running) == 0, let path = realpath("/proc/\(pid)/exe", nil) else { return false }
        defer { free(path) }
        guard String(cString: path).split(separator: "/").last?.hasPrefix("qemu") == true, stat(path, &ours) == 0 else { return false }
        return running.st_dev == ours.st_dev && running.st_ino == ours.st_ino
    }
}
