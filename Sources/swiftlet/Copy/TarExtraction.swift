import CArchive
import CLinux
import Errors
import Glibc

/// Unpacks the tar archive that a container sends. Whoever runs in the container may have made it: nothing is written outside of the
/// destination, no owner, device, set-user-ID bit or attribute is taken over, and a name that was not asked for ends it.
struct TarExtraction: Sendable {
    /// The name that all entries begin with, or `.`.
    let base: String
    /// Has to exist.
    let directory: String
    /// What takes the base's place in `directory`; nil for the contents themselves.
    let name: String?

    /// CLONE_FS (sched.h): a thread has a working directory of its own.
    private static let ownDirectory: Int32 = 0x200
    private static let block = 64 << 10
    /// Bytes that may follow the archive's end: tar fills up its last record.
    private static let maximumTail = 1 << 20

    /// Blocks, on a thread of its own, which has another working directory afterwards: libarchive's checks are for relative paths.
    ///
    /// - Returns: what was left out, of kinds that are not copied.
    func run(from descriptor: Int32) throws -> [String] {
        guard clinux_unshare(Self.ownDirectory) == 0 else { throw SwiftletError.system("unshare(CLONE_FS)") }
        guard chdir(directory) == 0 else { throw SwiftletError.system("enter \(directory)") }
        let locale = TarLocale()
        defer { locale.leave() }
        guard let reader = archive_read_new(), let writer = archive_write_disk_new() else { throw TarError.memory }
        defer {
            archive_read_free(reader)
            archive_write_free(writer)
        }
        archive_read_support_format_tar(reader)
        archive_write_disk_set_options(
            writer,
            ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_SECURE_SYMLINKS
                | ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS)
        guard archive_read_open_fd(reader, descriptor, Self.block) == ARCHIVE_OK else { throw TarError.of(reader, "read the archive") }
        var leftOut: [String] = []
        var entry: OpaquePointer?
        while true {
            let result = archive_read_next_header(reader, &entry)
            if result == ARCHIVE_EOF { break }
            guard result >= ARCHIVE_WARN, let entry else { throw TarError.of(reader, "read the archive") }
            guard let path = archive_entry_pathname(entry).flatMap({ String(validatingCString: $0) }) else {
                throw SwiftletError(.dataLoss, "the archive has a name that is not UTF-8")
            }
            guard let target = try place(path) else { continue }
            let isCopied = try prepare(entry, path, target)
            guard isCopied else {
                if leftOut.count < 100 { leftOut.append(path) }
                continue
            }
            guard archive_write_header(writer, entry) >= ARCHIVE_WARN else { throw TarError.of(writer, "write \(target)") }
            try copyData(reader, writer, target)
            guard archive_write_finish_entry(writer) >= ARCHIVE_WARN else { throw TarError.of(writer, "write \(target)") }
        }
        // Modes and times of directories are set at the end.
        guard archive_write_close(writer) >= ARCHIVE_WARN else { throw TarError.of(writer, "finish the copy") }
        try drain(descriptor)
        return leftOut
    }

    /// Where an entry goes, relative to the directory; nil for the directory itself.
    private func place(_ path: String) throws -> String? {
        // By bytes: a character may begin with a slash.
        guard path.utf8.first != UInt8(ascii: "/") else {
            throw SwiftletError(.permissionDenied, "the archive has an absolute path: \(path)")
        }
        var parts = path.utf8.split(separator: UInt8(ascii: "/")).map { String(Substring($0)) }.filter { $0 != "." }
        guard !parts.contains("..") else { throw SwiftletError(.permissionDenied, "the archive has a path that leads out of it: \(path)") }
        if base != "." {
            guard parts.first == base else { throw SwiftletError(.permissionDenied, "the archive has what was not asked for: \(path)") }
            parts.removeFirst()
        }
        if let name { parts.insert(name, at: 0) }
        return parts.isEmpty ? nil : parts.joined(separator: "/")
    }

    /// Takes from an entry what is not copied. - Returns: false for a kind that is left out.
    private func prepare(_ entry: OpaquePointer, _ path: String, _ target: String) throws -> Bool {
        if let link = archive_entry_hardlink(entry).map({ String(cString: $0) }) {
            guard let existing = try place(link) else { throw SwiftletError(.permissionDenied, "the archive links \(path) to a directory") }
            archive_entry_copy_hardlink(entry, existing)
        } else {
            let kinds: [mode_t] = [S_IFREG, S_IFDIR, S_IFLNK]
            guard kinds.contains(archive_entry_filetype(entry)) else { return false }
        }
        archive_entry_copy_pathname(entry, target)
        archive_entry_set_perm(entry, archive_entry_perm(entry) & 0o777)
        return true
    }

    private func copyData(_ reader: OpaquePointer, _ writer: OpaquePointer, _ target: String) throws {
        var bytes: UnsafeRawPointer?
        var (count, offset): (Int, Int64) = (0, 0)
        while true {
            let result = archive_read_data_block(reader, &bytes, &count, &offset)
            if result == ARCHIVE_EOF { return }
            guard result >= ARCHIVE_WARN else { throw TarError.of(reader, "read the archive") }
            guard archive_write_data_block(writer, bytes, count, offset) >= ARCHIVE_WARN else {
                throw TarError.of(writer, "write \(target)")
            }
        }
    }

    private func drain(_ descriptor: Int32) throws {
        var rest = [UInt8](repeating: 0, count: Self.block)
        var count = 0
        while true {
            let part = read(descriptor, &rest, rest.count)
            if part == 0 { return }
            guard part > 0 || errno == EINTR else { throw SwiftletError.system("read the archive") }
            count += max(part, 0)
            guard count <= Self.maximumTail else { throw SwiftletError(.dataLoss, "the archive goes on behind its end") }
        }
    }
}

enum TarError {
    static var memory: SwiftletError { SwiftletError(.resourceExhausted, "libarchive: out of memory") }

    static func of(_ archive: OpaquePointer, _ step: String) -> SwiftletError {
        let text = archive_error_string(archive).map { String(cString: $0) } ?? "unknown error"
        return SwiftletError(.dataLoss, "\(step): \(text)")
    }
}

/// UTF-8 for the names that libarchive converts, on this thread, whatever the environment says.
struct TarLocale {
    private let own: locale_t?
    private let former: locale_t?

    init() {
        own = newlocale(Int32(LC_CTYPE_MASK), "C.UTF-8", nil)
        former = own.map { uselocale($0) } ?? nil
    }

    func leave() {
        guard let own else { return }
        uselocale(former)
        freelocale(own)
    }
}
