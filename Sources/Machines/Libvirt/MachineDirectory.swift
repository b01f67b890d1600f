import Errors
import Glibc
import Logging

/// libvirtd's directory of machines, each of which has one of its own in it that is its user's.
enum MachineDirectory {
    /// Lets every user pass through, as libvirt's own packages have it. Debian's is open to libvirt-qemu alone, so that a QEMU that is
    /// another user finds no place for its monitor socket.
    static func open(_ path: String, _ logger: Logger) {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IXOTH == 0 else { return }
        guard chmod(path, status.st_mode & 0o7777 | S_IXOTH) == 0 else {
            return logger.warning(
                "machines with users of their own cannot pass through libvirt's directory",
                metadata: ["path": "\(path)", "reason": "\(SystemError(errno))"])
        }
        logger.notice("opened libvirt's directory to the users of machines", metadata: ["path": "\(path)", "mode": "o+x"])
    }
}
