import CLinux
import Errors
import Glibc
import Linux
import Synchronization

/// The pod's share: a virtiofs device that the host plugs in when the first container needs it, mounted once.
final class PodShareMount: Sendable {
    private let path: String
    private let mounted = Mutex<String?>(nil)

    /// Polls until the device shows. Counted, not timed: a guest's clock may jump.
    private static let attempts = 2000
    private static let pause: useconds_t = 5000

    /// - Parameter path: where it is mounted.
    init(path: String) { self.path = path }

    /// The directory of the share with this tag; waits about ten seconds for a device that is just being attached.
    ///
    /// - Throws: `.invalidArgument` for a tag that no device can have or another than before; `.notFound` when it does not show.
    func directory(tag: String) throws(SwiftletError) -> String {
        guard (1...36).contains(tag.utf8.count), tag.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
            throw SwiftletError(.invalidArgument, "share_tag of \(tag.utf8.count) bytes is not 1 to 36 printable characters")
        }
        return try mounted.withLock { (mounted) throws(SwiftletError) in
            if let known = mounted {
                guard known == tag else { throw SwiftletError(.invalidArgument, "share_tag: the pod's share has the tag \(known)") }
                return path
            }
            try mount(tag)
            mounted = tag
            return path
        }
    }

    private func mount(_ tag: String) throws(SwiftletError) {
        for _ in 0..<Self.attempts {
            do throws(SwiftletError) {
                // What a device node of the node would open here is a device of the guest: none of them.
                return try Mounts.mount(tag, "virtiofs", at: path, flags: [.noDevices])
            } catch {
                // EINVAL: no device has the tag (yet).
                guard error.systemErrno == EINVAL else { throw error }
            }
            usleep(Self.pause)
        }
        throw SwiftletError(.notFound, "no virtiofs device with tag \(tag) was attached to the guest: attach it before it is named")
    }
}
