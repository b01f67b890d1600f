import Foundation
import Linux
import Support
import Testing

/// A real libvirtd with directories of its own: it sees them at the usual places, in a mount namespace of its own, and
/// has a network namespace of its own.
final class PrivateLibvirtd {
    let directory: String
    private var process: ChildProcess?

    var socket: String { "\(directory)/run/libvirt-sock" }
    var uri: String { "qemu+unix:///system?socket=\(socket)" }
    var pidDirectory: String { "\(directory)/run/qemu" }

    private static let places = [
        ("run", "/run/libvirt"), ("lib", "/var/lib/libvirt"), ("cache", "/var/cache/libvirt"), ("log", "/var/log/libvirt"),
        ("etc", "/etc/libvirt"),
    ]

    init() throws {
        directory = "/tmp/swiftlet-libvirtd-\(UUID().uuidString.prefix(8))"
        for (name, _) in Self.places {
            try FileManager.default.createDirectory(
                atPath: "\(directory)/\(name)", withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        }
        try Data("stdio_handler = \"file\"\n".utf8).write(to: URL(filePath: "\(directory)/etc/qemu.conf"))
        let settings = "unix_sock_dir = \"/run/libvirt\"\nauth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n"
        try Data(settings.utf8).write(to: URL(filePath: "\(directory)/etc/libvirtd.conf"))
    }

    /// Starts the daemon and waits until it listens.
    func start() async throws {
        try? FileManager.default.removeItem(atPath: socket)
        let mounts = Self.places.map { "mkdir -p \($0.1) && mount --bind \(directory)/\($0.0) \($0.1)" }.joined(separator: " && ")
        let process = ChildProcess()
        process.executableURL = URL(filePath: "/usr/bin/unshare")
        // /run itself stays shared with the host: the mount point is made where it is not, and hidden from everybody else.
        process.arguments = [
            "--mount", "--net", "--propagation", "private", "/bin/sh", "-c",
            "mount -t tmpfs none /run && \(mounts) && exec libvirtd -f /etc/libvirt/libvirtd.conf",
        ]
        let log = "\(directory)/libvirtd.log"
        FileManager.default.createFile(atPath: log, contents: nil)
        process.standardOutput = FileHandle(forWritingAtPath: log)
        process.standardError = FileHandle(forWritingAtPath: log)
        try process.run()
        self.process = process
        try await eventually("libvirtd listens") {
            try #require(process.isRunning, "libvirtd ended: \((try? String(contentsOfFile: log, encoding: .utf8)) ?? "")")
            return UnixSocket.connectFailure(path: self.socket) == nil
        }
    }

    /// Runs a program in the daemon's network namespace.
    func inNetwork(_ program: String, _ arguments: [String]) async throws -> String {
        let pid = try #require(process?.processIdentifier)
        return try await Spawn("/usr/bin/nsenter", ["--target", "\(pid)", "--net", program] + arguments).check().outputText
    }

    func signal(_ number: Int32) {
        if let process { kill(process.processIdentifier, number) }
    }

    func kill9() {
        signal(SIGKILL)
        process?.waitUntilExit()
        process = nil
    }

    func close() {
        kill9()
        try? FileManager.default.removeItem(atPath: directory)
    }
}
