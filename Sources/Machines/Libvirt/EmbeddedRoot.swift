import Errors
import Foundation
import Glibc
import Linux

/// The directory of libvirt's embedded QEMU driver.
struct EmbeddedRoot {
    let path: String
    /// Where the driver keeps the state of running machines, by a link; nil: below `path`. With the state on a full
    /// file system machines were lost when they were found again after a restart: it must not be where machines fill the disk.
    var runDirectory: String?

    var uri: String { "qemu:///embed?root=\(path)" }
    var pidDirectory: String { "\(path)/run/qemu" }
    var capabilities: EmulatorCapabilities { EmulatorCapabilities(directory: "\(path)/cache/qemu/capabilities") }

    /// Settings of the embedded driver, in the syntax of libvirt's qemu.conf. QEMU's user, seccomp, capabilities and
    /// mount namespace stay as they are by default.
    static let settings = """
        # Written by swiftletd at each start.
        # QEMU writes its log and console files itself: there is no virtlogd to do it.
        stdio_handler = "file"
        # QEMU is moved into its pod's control groups at once, all but this one, which says what devices it may open. To make the
        # others and move QEMU's threads into them would cost each start some 30 ms.
        cgroup_controllers = ["devices"]

        """

    /// Creates the directory and the driver's configuration.
    ///
    /// - Throws: `invalidArgument` for a path that a URI cannot hold, the errno of what cannot be written.
    func prepare() throws {
        let plain = path.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "/"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
                true
            default: false
            }
        }
        guard path.hasPrefix("/"), plain else {
            throw SwiftletError(
                .invalidArgument,
                "the embedded libvirt's directory \(path.debugDescription) must be an absolute path of A-Z a-z 0-9 . _ - /")
        }
        // QEMU's user passes through it to its own directories.
        var directory = ""
        for component: Substring in "\(path)/etc".split(separator: "/") {
            directory += "/\(component)"
            guard mkdir(directory, 0o755) == 0 || errno == EEXIST else { throw SwiftletError.system("creating \(directory)") }
        }
        try write(Self.settings, to: "\(path)/etc/qemu.conf")
        if let runDirectory { try linkRun(to: runDirectory) }
    }

    /// A directory that an earlier release has made stays as long as a machine's state is in it.
    private func linkRun(to target: String) throws {
        // QEMU's user passes through.
        guard mkdir(target, 0o711) == 0 || errno == EEXIST else { throw SwiftletError.system("creating \(target)") }
        let run = "\(path)/run"
        if symlink(target, run) == 0 { return }
        var status = stat()
        guard errno == EEXIST, lstat(run, &status) == 0 else { throw SwiftletError.system("linking \(run) to \(target)") }
        let files = FileManager.default
        if status.st_mode & S_IFMT == S_IFDIR {
            let names = (try? files.contentsOfDirectory(atPath: pidDirectory)) ?? []
            guard !names.contains(where: { $0.hasSuffix(".pid") || $0.hasSuffix(".xml") }) else { return }
        } else if (try? files.destinationOfSymbolicLink(atPath: run)) == target {
            return
        }
        do { try files.removeItem(atPath: run) } catch { throw SwiftletError.wrap(error, "removing \(run)") }
        guard symlink(target, run) == 0 else { throw SwiftletError.system("linking \(run) to \(target)") }
    }

    /// Leaves a file that holds the text already as it is: on a full disk it could not be written again.
    private func write(_ text: String, to file: String) throws {
        if KernelFile.text(file) == text { return }
        let descriptor = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw SwiftletError.system("writing \(file)") }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else { throw SwiftletError.system("writing \(file)") }
    }
}
