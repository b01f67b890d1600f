import CLinux
import Concurrency
import Errors
import Glibc
import Linux
import Machines
import Runtime

/// The writable disk of a pod: a sparse ext4 image, copied from a template of the configured size.
///
/// It grows with what the guest writes and shrinks with what the guest deletes: the guest mounts it with `discard`, and with
/// `noinit_itable`, so that nothing zeroes its inode tables, 1/64 of its size, in the background.
///
/// Nothing on it outlives the pod, so it has no journal and is never synced.
struct ScratchDisk: Sendable {
    let directory: String
    let size: UInt64

    var template: String { "\(directory)/template-\(size).ext4" }

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
        try await format(partial)
        guard rename(partial, template) == 0 else {
            throw SwiftletError(.internal, "rename \(partial): \(String(cString: strerror(errno)))")
        }
    }

    private func format(_ path: String) async throws {
        // No journal, no reserved blocks, and tables that need not be written: the file stays small.
        let options = [
            "-q", "-F", "-t", "ext4", "-m", "0", "-O", "^has_journal,sparse_super2,^resize_inode", "-E", "lazy_itable_init=1,nodiscard",
            path,
        ]
        let result = try await Spawn("/sbin/mke2fs", options).run()
        guard result.succeeded else { throw SwiftletError(.internal, "mke2fs \(path): \(result.errorText)") }
    }

    /// Makes a disk of `size` bytes. Idempotent: an older file is replaced.
    func create(_ path: String, size: UInt64, owner: MachineUser) async throws {
        if size == self.size { return try await OwnThread.run { try copyTemplate(to: path, owner: owner) } }
        // No template of its own: pods choose their sizes.
        try await OwnThread.run { close(try makeFile(path, size: size, owner: owner)) }
        try await format(path)
    }

    /// Bytes that a disk takes on the node; 0 when it is not there. Blocks.
    static func allocated(_ path: String) -> UInt64 {
        var status = stat()
        // In units of 512 bytes (stat(2)).
        return stat(path, &status) == 0 ? UInt64(max(status.st_blocks, 0)) * 512 : 0
    }

    /// Bytes that an empty disk takes on the node. Blocks.
    var emptyBytes: UInt64 { Self.allocated(template) }

    /// Copies the template's data; holes stay holes.
    private func copyTemplate(to path: String, owner: MachineUser) throws {
        let source = open(template, O_RDONLY | O_CLOEXEC)
        guard source >= 0 else { throw failure("open \(template)") }
        defer { close(source) }
        let target = try makeFile(path, size: size, owner: owner)
        defer { close(target) }
        try copyData(from: source, to: target, path)
    }

    /// An empty file of QEMU's user, open for writing.
    private func makeFile(_ path: String, size: UInt64, owner: MachineUser) throws -> Int32 {
        unlink(path)
        let file = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw failure("create \(path)") }
        guard ftruncate(file, off_t(size)) == 0, fchown(file, owner.uid, owner.gid) == 0 else {
            let error = failure("prepare \(path)")
            close(file)
            throw error
        }
        return file
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
