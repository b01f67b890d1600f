import CArchive
import Errors
import Foundation
import Glibc

/// A seed as an ISO 9660 image with Joliet's and Rock Ridge's names, by libarchive.
enum ISOImage {
    /// What libarchive's callbacks append to.
    private final class Output {
        var bytes: [UInt8] = []
    }

    static func write(_ seed: Seed, to path: String, mode: UInt32) throws {
        let bytes = try image(of: seed)
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode_t(mode & 0o777))
        guard file >= 0 else { throw SwiftletError.system("create seed \(printable(path))") }
        defer { close(file) }
        // The mode of a file that was there, or that the process's mask has changed.
        guard fchmod(file, mode_t(mode & 0o777)) == 0 else { throw SwiftletError.system("set the mode of seed \(printable(path))") }
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            guard count > 0 else { throw SwiftletError.system("write seed \(printable(path))") }
            rest = rest.dropFirst(count)
        }
    }

    /// Equal seeds have equal images.
    static func image(of seed: Seed) throws -> [UInt8] {
        guard let archive = archive_write_new() else { throw memory }
        let output = Output()
        defer { archive_write_free(archive) }
        try check(archive, archive_write_set_format_iso9660(archive))
        for (option, value) in [("volume-id", seed.volumeID), ("joliet", "1"), ("rockridge", "useful"), ("pad", "1")] {
            try check(archive, archive_write_set_format_option(archive, "iso9660", option, value))
        }
        let context = Unmanaged.passUnretained(output).toOpaque()
        try check(
            archive,
            archive_write_open2(
                archive, context, nil,
                { _, context, buffer, count in
                    guard let context, let buffer else { return -1 }
                    let output = Unmanaged<Output>.fromOpaque(context).takeUnretainedValue()
                    output.bytes.append(contentsOf: UnsafeRawBufferPointer(start: buffer, count: count))
                    return count
                }, nil, nil))
        var directories: Set<String> = []
        for file in seed.files {
            let parts = file.path.split(separator: "/").dropLast()
            for count in 1..<(parts.count + 1) where directories.insert(parts.prefix(count).joined(separator: "/")).inserted {
                try add(archive, parts.prefix(count).joined(separator: "/"), nil)
            }
            try add(archive, file.path, file.contents)
        }
        try check(archive, archive_write_close(archive))
        return withExtendedLifetime(output) { ISOTimes.cleared(output.bytes) }
    }

    /// - Parameter contents: nil: a directory.
    private static func add(_ archive: OpaquePointer, _ path: String, _ contents: [UInt8]?) throws {
        guard let entry = archive_entry_new() else { throw memory }
        defer { archive_entry_free(entry) }
        archive_entry_set_pathname(entry, path)
        archive_entry_set_filetype(entry, contents == nil ? Glibc.S_IFDIR : Glibc.S_IFREG)
        archive_entry_set_perm(entry, contents == nil ? 0o755 : 0o644)
        archive_entry_set_size(entry, Int64(contents?.count ?? 0))
        for set in [archive_entry_set_mtime, archive_entry_set_atime, archive_entry_set_ctime, archive_entry_set_birthtime] {
            set(entry, ISOTimes.epoch, 0)
        }
        try check(archive, archive_write_header(archive, entry))
        guard let contents, !contents.isEmpty else { return }
        let written = contents.withUnsafeBytes { archive_write_data(archive, $0.baseAddress, $0.count) }
        guard written == contents.count else { throw failure(archive) }
    }

    private static var memory: SwiftletError { SwiftletError(.resourceExhausted, "libarchive: out of memory") }

    private static func check(_ archive: OpaquePointer, _ result: Int32) throws {
        guard result >= ARCHIVE_WARN else { throw failure(archive) }
    }

    private static func failure(_ archive: OpaquePointer) -> SwiftletError {
        let text = archive_error_string(archive).map { String(cString: $0) } ?? "unknown error"
        return SwiftletError(.internal, "make a seed: libarchive: \(text)")
    }
}
