import CLinux
import Errors
import Glibc
import Linux
import Machines
import Runtime

/// The writable disk of a pod: a sparse ext4 image, copied from a template made once per size.
///
/// Nothing on it outlives the pod, so it has no journal and is never synced.
struct ScratchDisk: Sendable {
    let directory: String
    let size: UInt64

    private var template: String { "\(directory)/template-\(size).ext4" }

    /// Makes the template if it is missing. Call once, before any `create`.
    func prepareTemplate() async throws {
        guard access(template, F_OK) != 0 else { return }
        let partial = template + ".partial"
        unlink(partial)
        let descriptor = open(partial, O_CREAT | O_WRONLY | O_CLOEXEC, 0o600)
        guard descriptor >= 0, ftruncate(descriptor, off_t(size)) == 0 else {
            throw SwiftletError(.internal, "scratch disk template \(partial): \(String(cString: strerror(errno)))")
        }
        close(descriptor)
        // No journal, no reserved blocks, and tables that need not be written: the copy stays small.
        let options = [
            "-q", "-F", "-t", "ext4", "-m", "0", "-O", "^has_journal,sparse_super2,^resize_inode", "-E", "lazy_itable_init=1,nodiscard",
            partial,
        ]
        let result = try await Spawn("/sbin/mke2fs", options).run()
        guard result.succeeded else { throw SwiftletError(.internal, "mke2fs \(partial): \(result.errorText)") }
        guard rename(partial, template) == 0 else {
            throw SwiftletError(.internal, "rename \(partial): \(String(cString: strerror(errno)))")
        }
    }

    /// Copies the template's data; holes stay holes. Idempotent: an older file is replaced.
    func create(_ path: String, owner: MachineUser) throws {
        let source = open(template, O_RDONLY | O_CLOEXEC)
        guard source >= 0 else { throw failure("open \(template)") }
        defer { close(source) }
        unlink(path)
        let target = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0o600)
        guard target >= 0 else { throw failure("create \(path)") }
        defer { close(target) }
        guard ftruncate(target, off_t(size)) == 0, fchown(target, owner.uid, owner.gid) == 0 else { throw failure("prepare \(path)") }
        try copyData(from: source, to: target, path)
    }

    func remove(_ path: String) throws {
        guard unlink(path) == 0 || errno == ENOENT else { throw failure("remove \(path)") }
    }

    private func copyData(from source: Int32, to target: Int32, _ path: String) throws {
        var offset: off_t = 0
        while true {
            let start = lseek(source, offset, Int32(CLINUX_SEEK_DATA))
            if start < 0 {
                if errno == ENXIO { return }
                throw failure("copy \(path)")
            }
            let end = lseek(source, start, Int32(CLINUX_SEEK_HOLE))
            var (from, to) = (Int64(start), Int64(start))
            while from < end {
                let count = clinux_copy_file_range(source, &from, target, &to, Int(Int64(end) - from))
                guard count > 0 else { throw failure("copy \(path)") }
            }
            offset = end
        }
    }

    private func failure(_ step: String) -> SwiftletError {
        SwiftletError(errno == ENOSPC ? .resourceExhausted : .internal, "scratch disk: \(step): \(String(cString: strerror(errno)))")
    }
}
