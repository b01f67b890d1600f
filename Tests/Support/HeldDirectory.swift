import Errors
import Foundation
import Glibc
import Linux
import Synchronization

/// A directory that a test makes and removes: below /tmp, or a control group.
///
/// Its process holds a lock on it (flock(2)), which the kernel releases however the process ends. Whoever makes one of the same kind next
/// tells by that what a killed run has left, whatever PID namespace that was in and whatever the clock says, and removes it.
public final class HeldDirectory: Sendable {
    public let path: String
    /// With the lock; -1 once the directory is removed.
    private let descriptor: Mutex<Int32>

    /// - Parameters:
    ///   - kind: begins the names of all directories of this kind, and of nothing else in `parent`.
    ///   - mode: whatever the umask is.
    public init(_ kind: String, in parent: String = "/tmp", mode: mode_t = 0o700) throws {
        if Self.looked.withLock({ $0.insert("\(parent)/\(kind)").inserted }) { try Self.removeLeftovers(kind, in: parent) }
        // Nobody looks for leftovers between the directory's making and its lock.
        let place = try Self.lock(parent, LOCK_SH)
        defer { Self.unlock(place) }
        var path = ""
        repeat {
            path = "\(parent)/\(kind)" + String(String(UInt32.random(in: 0..<1 << 24) | 1 << 24, radix: 16).dropFirst())
        } while mkdir(path, mode) != 0 && errno == EEXIST
        chmod(path, mode)
        self.path = path
        descriptor = Mutex(try Self.lock(path, LOCK_EX))
    }

    deinit { remove() }

    /// Removes the directory with all that is in it. Idempotent.
    public func remove() {
        descriptor.withLock { descriptor in
            guard descriptor >= 0 else { return }
            Self.remove(path)
            Self.unlock(descriptor)
            descriptor = -1
        }
    }

    /// Kinds whose leftovers this process has looked for.
    private static let looked = Mutex<Set<String>>([])

    /// Removes directories of this kind that no process holds.
    public static func removeLeftovers(_ kind: String, in parent: String) throws {
        let place = try lock(parent, LOCK_EX)
        defer { unlock(place) }
        for name in try KernelFile.names(in: parent) where isName(name, of: kind) {
            guard let own = try? lock("\(parent)/\(name)", LOCK_EX | LOCK_NB) else { continue }
            var status = stat()
            if fstat(own, &status) == 0, status.st_uid == geteuid() { remove("\(parent)/\(name)") }
            unlock(own)
        }
    }

    private static func isName(_ name: String, of kind: String) -> Bool {
        name.hasPrefix(kind) && name.utf8.count == kind.utf8.count + 6 && UInt32(name.dropFirst(kind.count), radix: 16) != nil
    }

    // MARK: Locks

    private static func lock(_ directory: String, _ operation: Int32) throws -> Int32 {
        let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard descriptor >= 0 else { throw SwiftletError.system("open \(directory)") }
        while flock(descriptor, operation) != 0 {
            guard errno == EINTR else {
                defer { close(descriptor) }
                throw SwiftletError.system("lock \(directory)")
            }
        }
        return descriptor
    }

    /// Also where a child that is being started has a copy of the descriptor.
    private static func unlock(_ descriptor: Int32) {
        _ = flock(descriptor, LOCK_UN)
        close(descriptor)
    }

    // MARK: Removal

    /// For processes of a control group that are about to end.
    private static let patience = Duration.seconds(2)

    private static func remove(_ path: String) {
        // What is mounted there is somebody else's.
        let mounts = ((try? String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8)) ?? "").split(separator: "\n").compactMap {
            $0.split(separator: " ").dropFirst(4).first.map(String.init)
        }
        for mount in mounts.reversed() where mount == path || mount.hasPrefix(path + "/") {
            guard umount2(mount, Int32(MNT_DETACH)) == 0 else { return }
        }
        guard access(path + "/cgroup.procs", F_OK) == 0 else {
            try? FileManager.default.removeItem(atPath: path)
            return
        }
        let begin = ContinuousClock.now
        for group in (FileManager.default.subpaths(atPath: path) ?? []).sorted().reversed().map({ "\(path)/\($0)" }) + [path] {
            while rmdir(group) != 0, errno == EBUSY, begin.duration(to: .now) < patience { usleep(10_000) }
        }
    }
}
