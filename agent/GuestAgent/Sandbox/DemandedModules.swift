import CContainer
import Errors
import Glibc
import Synchronization

/// The kernel's modules for network devices and packet filters: on a disk that the host plugs in for containers that may administer
/// networks, and loaded when the kernel asks for them. Without such a container the kernel is refused at once, and no disk is mounted.
final class DemandedModules: Sendable {
    private let console: Console
    /// Of the containers that have the disk.
    private let users = Mutex<Set<String>>([])

    init(console: Console) { self.console = console }

    /// Lets the kernel ask for modules while the container is there.
    ///
    /// - Parameter device: the disk, which is there.
    func use(_ device: String, by container: String) throws(SwiftletError) {
        try users.withLock { (users) throws(SwiftletError) in
            if users.isEmpty { try open(device) }
            users.insert(container)
        }
    }

    /// The last container's release gives the disk back: nothing is loaded any more. What is loaded stays. Idempotent.
    func release(_ container: String) {
        users.withLock { users in
            guard users.remove(container) != nil, users.isEmpty else { return }
            close()
        }
    }

    private func open(_ device: String) throws(SwiftletError) {
        let directory = ModuleRequest.directory
        try Files.makeDirectory(directory)
        guard cc_mount_readonly(device, directory, "erofs") == 0 else { throw .system("mounting the kernel's modules (\(device))") }
        do throws(SwiftletError) {
            // Of a guest that was started before its files were replaced.
            let (own, theirs) = (Files.text("/proc/sys/kernel/osrelease") ?? "", Files.text("\(directory)/release") ?? "")
            guard own == theirs else {
                return console.write("the modules on demand are of kernel \(printable(theirs)), not \(own): none is loaded")
            }
            let modules = KernelModules(directory: directory)
            modules.load(list: "unasked", console)
            modules.close()
            try ModuleRequest.allow()
        } catch {
            close()
            throw error
        }
    }

    private func close() {
        try? ModuleRequest.forbid()
        // Also below a request that is being served.
        cc_unmount(ModuleRequest.directory)
    }
}
