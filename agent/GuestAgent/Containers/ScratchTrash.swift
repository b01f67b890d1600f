import CContainer
import CLinux
import Errors
import Glibc
import Synchronization

/// Removal of a container's files on the scratch disk: out of the way at once, deleted on a thread of its own.
public enum ScratchTrash {
    private static let counter = Atomic<UInt64>(0)
    private static let removals = Atomic<Int>(0)

    /// Threads that delete: each holds descriptors until it ends, also when the trash is empty already.
    public static var removalsInProgress: Int { removals.load(ordering: .acquiring) }

    /// Moves `directory` into `trash` (on the same filesystem) and has it deleted there. - Returns: false when it cannot be moved.
    static func discard(_ directory: String, trash: String) -> Bool {
        guard access(directory, F_OK) == 0 else { return true }
        mkdir(trash, 0o700)
        let name = uniqueName()
        guard rename(directory, "\(trash)/\(name)") == 0 else { return false }
        let path = Unmanaged.passRetained(Box("\(trash)"))
        removals.add(1, ordering: .relaxed)
        var thread = pthread_t()
        let started = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                Priority.behindContainers.apply()
                ScratchTrash.empty(Unmanaged<Box>.fromOpaque(argument).takeRetainedValue().path)
                ScratchTrash.removals.subtract(1, ordering: .releasing)
                return nil
            }, path.toOpaque())
        guard started == 0 else {
            path.release()
            removals.subtract(1, ordering: .relaxed)
            return true
        }
        pthread_detach(thread)
        return true
    }

    private final class Box: Sendable {
        let path: String
        init(_ path: String) { self.path = path }
    }

    private static func uniqueName() -> String { "removed-\(counter.add(1, ordering: .relaxed).newValue)" }

    /// Deletes what is in `trash`. A tree of any depth needs two descriptors: directories found in a directory are first
    /// moved up into the trash itself.
    static func empty(_ trash: String) {
        let top = open(trash, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard top >= 0 else { return }
        let directory = OwnedDescriptor(top)
        while true {
            var removed = 0
            for name in names(in: directory.number) where removeEntry(name, of: directory.number, top: directory.number) { removed += 1 }
            // What cannot be removed (an immutable file) stays; it goes with the VM.
            if removed == 0 { return }
        }
    }

    /// - Returns: whether anything went away.
    private static func removeEntry(_ name: String, of parent: Int32, top: Int32) -> Bool {
        if unlinkat(parent, name, 0) == 0 || unlinkat(parent, name, AT_REMOVEDIR) == 0 { return true }
        let opened = cc_open_directory_at(parent, name)
        guard opened >= 0 else { return false }
        let directory = OwnedDescriptor(opened)
        var progress = false
        for child in names(in: directory.number) {
            if unlinkat(directory.number, child, 0) == 0 || unlinkat(directory.number, child, AT_REMOVEDIR) == 0 {
                progress = true
            } else if renameat(directory.number, child, top, uniqueName()) == 0 {
                progress = true
            }
        }
        return unlinkat(parent, name, AT_REMOVEDIR) == 0 || progress
    }

    /// At most 4096 names of a directory; a larger one is read again after these have gone.
    private static func names(in descriptor: Int32) -> [String] {
        let copy = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard copy >= 0 else { return [] }
        guard let stream = fdopendir(copy) else {
            close(copy)
            return []
        }
        defer { closedir(stream) }
        var names: [String] = []
        while names.count < 4096, let entry = readdir(stream) {
            let name = String(cString: clinux_entry_name(entry))
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }
}
