import AgentProtocol
import CContainer
import CLinux
import Errors
import Glibc
import Linux
import Synchronization

/// Parts of the pod's share: a virtiofs device that the host plugs in when the first container needs it, mounted once.
final class ShareVolumes: VolumeKind {
    private let path: String
    /// The tag of the device that is mounted. The lock is held for one attempt to mount, never while a device is waited for.
    private let mountedTag = Mutex<String?>(nil)

    /// - Parameter path: where the device is mounted.
    init(path: String) { self.path = path }

    func devices(for request: VolumeRequest) throws(SwiftletError) -> AwaitedDevices {
        let tag = request.shareTag
        guard (1...36).contains(tag.utf8.count), tag.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
            throw SwiftletError(.invalidArgument, "share_tag of \(tag.utf8.count) bytes is not 1 to 36 printable characters")
        }
        return AwaitedDevices(others: ["virtiofs device with tag \(tag)": { [weak self] in self?.isThere(tag) ?? true }])
    }

    func bring(_ request: VolumeRequest, mounted: (String) -> Void) throws(SwiftletError) -> String {
        try mount(request.shareTag)
        // Without "..": the host made the path, and below it only the host makes links.
        let source = path + (try containerPath("/" + request.mount.source, "share path"))
        var status = stat()
        guard stat(source, &status) == 0 else { throw .system("open \(printable(request.mount.source)) of the pod's share") }
        mounted(source)
        return source
    }

    /// Whether the device can be mounted, found out by mounting it: the kernel names the tags of its devices nowhere else before
    /// Linux 6.9. A failure that waiting does not change counts as well: ``bring(_:mounted:)`` meets it.
    private func isThere(_ tag: String) -> Bool {
        do {
            try mount(tag)
            return true
        } catch {
            // ENODEV: the kernel's module is not loaded yet.
            return error.systemErrno != EINVAL && error.systemErrno != ENODEV
        }
    }

    /// - Throws: EINVAL when no device has the tag (yet); `.invalidArgument` for another tag than before.
    private func mount(_ tag: String) throws(SwiftletError) {
        try mountedTag.withLock { (mounted) throws(SwiftletError) in
            if let known = mounted {
                guard known == tag else { throw SwiftletError(.invalidArgument, "share_tag: the pod's share has the tag \(known)") }
                return
            }
            // What a device node of the node would open here is a device of the guest: none of them.
            try Mounts.mount(tag, "virtiofs", at: path, flags: [.noDevices])
            mounted = tag
        }
    }

    /// Pages that a process has dirtied through a mapping reach the node's files only by this when it is killed.
    func flush() {
        guard mountedTag.withLock({ $0 }) != nil else { return }
        let directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { return }
        _ = clinux_syncfs(directory)
        close(directory)
    }

    func release() {
        mountedTag.withLock { mounted in
            if mounted != nil { cc_unmount(path) }
            mounted = nil
        }
    }
}
