import CLinux
import Errors
import Glibc

/// Files that others append to, and whose beginning is given back to the file system: no byte moves, and none behind it is touched.
public enum SparseFile {
    /// File systems release whole blocks only.
    private static let block: UInt64 = 4096

    /// Releases what lies before `end`, from `start` on.
    ///
    /// - Returns: the offset before which all is released.
    public static func release(_ descriptor: Int32, from start: UInt64, to end: UInt64) throws -> UInt64 {
        let (start, end) = (start / block * block, end / block * block)
        guard end > start else { return start }
        while clinux_punch_hole(descriptor, off_t(start), off_t(end - start)) != 0 {
            guard errno == EINTR else { throw SwiftletError.system("release a file's beginning") }
        }
        return end
    }

    /// Bytes that it takes on the disk, and its length.
    public static func size(_ descriptor: Int32) throws -> (taken: UInt64, length: UInt64) {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw SwiftletError.system("look at a file") }
        guard status.st_mode & S_IFMT == S_IFREG else { throw SwiftletError(.failedPrecondition, "not a regular file") }
        return (UInt64(status.st_blocks) * 512, UInt64(status.st_size))
    }

    /// Where the next bytes that are not released begin; nil where none follow. On a file system that knows no holes: at `offset`.
    public static func data(_ descriptor: Int32, from offset: UInt64) -> UInt64? {
        let found = lseek(descriptor, off_t(offset), Int32(CLINUX_SEEK_DATA))
        guard found < 0 else { return UInt64(found) }
        return errno == ENXIO ? nil : offset
    }

    /// Where the next released bytes begin, or the end of the file.
    public static func hole(_ descriptor: Int32, from offset: UInt64) -> UInt64 {
        let found = lseek(descriptor, off_t(offset), Int32(CLINUX_SEEK_HOLE))
        return found < 0 ? .max : UInt64(found)
    }
}
