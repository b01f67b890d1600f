import CLinux
import Errors
import Glibc
import Linux

/// Mounts of the guest itself; those of containers are made with them.
enum Mounts {
    struct Flags: OptionSet {
        let rawValue: UInt
        static let noSetUserID = Flags(rawValue: UInt(CLINUX_MS_NOSUID))
        static let noDevices = Flags(rawValue: UInt(CLINUX_MS_NODEV))
        static let noExecution = Flags(rawValue: UInt(CLINUX_MS_NOEXEC))
        static let noAccessTimes = Flags(rawValue: UInt(CLINUX_MS_NOATIME))
        static let move = Flags(rawValue: UInt(CLINUX_MS_MOVE))
    }

    /// Mounts a filesystem on a directory, which is made when it is missing.
    static func mount(
        _ source: String, _ filesystem: String, at directory: String, flags: Flags = [], options: String = ""
    ) throws(SwiftletError) {
        try Files.makeDirectory(directory)
        guard clinux_mount(source, directory, filesystem, flags.rawValue, options) == 0 else {
            throw .system("mounting \(filesystem) \(source) on \(directory)")
        }
    }

    static func move(_ source: String, to directory: String) throws(SwiftletError) {
        guard clinux_mount(source, directory, "", Flags.move.rawValue, "") == 0 else {
            throw .system("moving the mount \(source) to \(directory)")
        }
    }

    /// Whether another filesystem than the parent directory's is mounted here.
    static func isMountPoint(_ directory: String) -> Bool {
        var here = stat()
        var above = stat()
        return stat(directory, &here) == 0 && stat(directory + "/..", &above) == 0 && here.st_dev != above.st_dev
    }
}
