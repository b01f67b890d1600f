import CQcow
import Errors
import Glibc

/// What libqcow says of a qcow2 image, as a second reader beside ``QcowHeader``: where the two differ, one of them was deceived.
enum LibqcowReader {
    struct Findings: Equatable {
        var virtualSize: UInt64
        var encryption: UInt32
        var hasBackingFile: Bool
        var snapshots: Int
    }

    /// - Throws: ``DiskRefusal`` when libqcow refuses the image.
    static func read(_ path: String) throws -> Findings {
        var file: UnsafeMutablePointer<libqcow_file_t>?
        var error: UnsafeMutablePointer<libqcow_error_t>?
        func check(_ result: Int32, _ what: String) throws {
            guard result != 1 else { return }
            defer { libqcow_error_free(&error) }
            var text = [CChar](repeating: 0, count: 512)
            let length = error == nil ? 0 : libqcow_error_sprint(error, &text, text.count - 1)
            let said = length > 0 ? String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) : "no reason"
            throw DiskRefusal("libqcow cannot \(what): \(printable(said, limit: 300))")
        }
        try check(libqcow_file_initialize(&file, &error), "begin")
        defer { libqcow_file_free(&file, nil) }
        try check(libqcow_file_open(file, path, libqcow_get_access_flags_read(), &error), "read it")
        var findings = Findings(virtualSize: 0, encryption: 0, hasBackingFile: false, snapshots: 0)
        var size: size64_t = 0
        try check(libqcow_file_get_media_size(file, &size, &error), "tell its size")
        findings.virtualSize = size
        try check(libqcow_file_get_encryption_method(file, &findings.encryption, &error), "tell whether it is encrypted")
        var length = 0
        // 0: there is none.
        let backing = libqcow_file_get_utf8_backing_filename_size(file, &length, &error)
        if backing != 0 { try check(backing, "tell whether it has a backing file") }
        findings.hasBackingFile = backing == 1 && length > 0
        var snapshots: Int32 = 0
        try check(libqcow_file_get_number_of_snapshots(file, &snapshots, &error), "tell its snapshots")
        findings.snapshots = Int(snapshots)
        return findings
    }
}

extension DiskGeometry {
    /// As ``init(of:saidToBe:)``, with libqcow's word for a qcow2 image that it can read.
    ///
    /// - Parameter path: the same file, for libqcow.
    public init(of bytes: DiskBytes, at path: String, saidToBe format: DiskFormat? = nil) throws {
        try self.init(of: bytes, saidToBe: format)
        guard self.format == .qcow2 else { return }
        let header = try QcowHeader(of: bytes)
        // QEMU reads both; libqcow 20201213 neither.
        guard !header.isZstd, !header.hasSubclusters else { return }
        let findings = try LibqcowReader.read(path)
        let expected = LibqcowReader.Findings(
            virtualSize: header.virtualSize, encryption: 0, hasBackingFile: false, snapshots: Int(header.snapshots.count))
        guard findings == expected else {
            throw DiskRefusal("libqcow finds another image in it: \(findings.virtualSize) bytes and \(findings.snapshots) snapshots")
        }
    }
}
