import CArchive
import Errors
import Foundation

/// Decompresses a blob through libarchive's filters; libarchive never looks at what is inside. Blocking; belongs to one thread.
final class Decompressor: ByteStream {
    private let archive: OpaquePointer
    private let source: Source
    private var isOpen = false

    /// What libarchive's callbacks get: they may not throw, so the error waits here.
    private final class Source {
        let stream: any ByteStream
        var failure: (any Error)?

        init(_ stream: any ByteStream) { self.stream = stream }
    }

    init(_ stream: any ByteStream, compression: Compression) throws {
        guard let archive = archive_read_new() else { throw SwiftletError(.resourceExhausted, "libarchive: out of memory") }
        self.archive = archive
        source = Source(stream)
        switch compression {
        case .gzip: archive_read_append_filter(archive, ARCHIVE_FILTER_GZIP)
        case .zstd: archive_read_append_filter(archive, ARCHIVE_FILTER_ZSTD)
        case .uncompressed: break
        }
        archive_read_set_format(archive, ARCHIVE_FORMAT_RAW)
    }

    deinit {
        archive_read_free(archive)
    }

    func next() throws -> UnsafeRawBufferPointer? {
        if !isOpen {
            guard try open() else { return nil }
            isOpen = true
        }
        var block: UnsafeRawPointer?
        var size = 0
        var offset: la_int64_t = 0
        while true {
            let result = archive_read_data_block(archive, &block, &size, &offset)
            if result == ARCHIVE_EOF { return nil }
            guard result == ARCHIVE_OK else { throw failure("decompress") }
            if size > 0 { return UnsafeRawBufferPointer(start: block, count: size) }
        }
    }

    /// False when there is nothing inside.
    private func open() throws -> Bool {
        let opened = archive_read_open(
            archive, Unmanaged.passUnretained(source).toOpaque(), nil,
            { archive, context, buffer in
                guard let context, let buffer else { return -1 }
                let source = Unmanaged<Source>.fromOpaque(context).takeUnretainedValue()
                do {
                    let chunk = try source.stream.next()
                    buffer.pointee = chunk?.baseAddress
                    return chunk?.count ?? 0
                } catch {
                    source.failure = error
                    return -1
                }
            }, nil)
        guard opened == ARCHIVE_OK else { throw failure("open") }
        var entry: OpaquePointer?
        switch archive_read_next_header(archive, &entry) {
        case ARCHIVE_OK: return true
        case ARCHIVE_EOF: return false
        default: throw failure("open")
        }
    }

    private func failure(_ step: String) -> SwiftletError {
        if let failure = source.failure { return SwiftletError.wrap(failure, step) }
        let text = archive_error_string(archive).map { String(cString: $0) } ?? "unknown error"
        return SwiftletError(.dataLoss, "\(step): \(text)")
    }
}
