import CArchive
import Errors
import Glibc

/// Makes the tar archive that a container's tar unpacks: files, directories and symbolic links, which are not followed, as root's.
struct TarCreation: Sendable {
    /// Without a slash at its end.
    let source: String
    /// What takes the source's place in the archive; nil for its contents themselves.
    let name: String?

    private static let block = 64 << 10

    /// Blocks, on a thread of its own. SIGPIPE is to be ignored.
    ///
    /// - Returns: what was left out, of kinds that are not copied.
    /// - Throws: `SessionDescriptors.ReaderGone` where the archive is not taken any more.
    func run(to descriptor: Int32) throws -> [String] {
        let locale = TarLocale()
        defer { locale.leave() }
        guard let disk = archive_read_disk_new(), let writer = archive_write_new(), let entry = archive_entry_new() else {
            throw TarError.memory
        }
        defer {
            archive_entry_free(entry)
            archive_read_free(disk)
            archive_write_free(writer)
        }
        archive_read_disk_set_symlink_physical(disk)
        archive_read_disk_set_behavior(disk, ARCHIVE_READDISK_NO_XATTR | ARCHIVE_READDISK_NO_ACL | ARCHIVE_READDISK_NO_FFLAGS)
        // Long names in GNU's way, which busybox and toybox read as well.
        archive_write_set_format_gnutar(writer)
        guard archive_read_disk_open(disk, source) == ARCHIVE_OK else { throw TarError.of(disk, "read \(source)") }
        guard archive_write_open_fd(writer, descriptor) == ARCHIVE_OK else { throw TarError.of(writer, "write the archive") }
        var leftOut: [String] = []
        while true {
            let result = archive_read_next_header2(disk, entry)
            if result == ARCHIVE_EOF { break }
            guard result >= ARCHIVE_WARN else { throw TarError.of(disk, "read \(source)") }
            archive_read_disk_descend(disk)
            guard let path = archive_entry_pathname(entry).flatMap({ String(validatingCString: $0) }) else {
                throw SwiftletError(.invalidArgument, "\(source) has a name that is not UTF-8")
            }
            let kinds: [mode_t] = [S_IFREG, S_IFDIR, S_IFLNK]
            guard kinds.contains(archive_entry_filetype(entry)) else {
                if leftOut.count < 100 { leftOut.append(path) }
                continue
            }
            guard let target = place(path) else { continue }
            archive_entry_copy_pathname(entry, target)
            // Owned by root there, a set-user-ID file would be root's.
            archive_entry_set_perm(entry, archive_entry_perm(entry) & 0o777)
            archive_entry_set_uid(entry, 0)
            archive_entry_set_gid(entry, 0)
            guard archive_write_header(writer, entry) >= ARCHIVE_WARN else { throw Self.failure(writer, "send \(path)") }
            if archive_entry_filetype(entry) == S_IFREG, archive_entry_size(entry) > 0 { try copyData(path, writer) }
        }
        guard archive_write_close(writer) >= ARCHIVE_WARN else { throw Self.failure(writer, "finish the archive") }
        return leftOut
    }

    private static func failure(_ writer: OpaquePointer, _ step: String) -> any Error {
        archive_errno(writer) == EPIPE ? SessionDescriptors.ReaderGone() : TarError.of(writer, step)
    }

    /// The entry's name in the archive; nil for the directory whose contents are sent.
    private func place(_ path: String) -> String? {
        let rest = path.dropFirst(source.count).drop { $0 == "/" }
        let parts = [name, rest.isEmpty ? nil : String(rest)].compactMap(\.self)
        return parts.isEmpty ? nil : parts.joined(separator: "/")
    }

    /// A file that grows is cut at the size that was said; of one that shrinks, the rest is zeros.
    private func copyData(_ path: String, _ writer: OpaquePointer) throws {
        let file = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
        guard file >= 0 else { throw SwiftletError.system("read \(path)") }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: Self.block)
        while true {
            let count = read(file, &bytes, bytes.count)
            if count == 0 { return }
            guard count > 0 else { throw SwiftletError.system("read \(path)") }
            let written = archive_write_data(writer, bytes, count)
            guard written >= 0 else { throw Self.failure(writer, "send \(path)") }
            if written < count { return }
        }
    }
}
