import ArgumentParser
import CLinux
import Errors
import Glibc
import SwiftletVersion
import VsockDevice

extension DeviceLogLevel: ExpressibleByArgument {}

/// Serves one virtual machine's vsock device to QEMU over vhost-user.
@main
struct SwiftletVsockd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "swiftlet-vsockd",
        abstract: "The vsock device of one virtual machine, over vhost-user.",
        discussion: """
            Host programs connect to the host socket, send "CONNECT <port>\\n" and read "OK <port>\\n" or \
            "ERROR <reason>\\n"; then bytes flow both ways. Connections of the guest to port P of the host go to \
            whoever listens on <host-socket>_P. The process ends when QEMU closes its side, and on SIGTERM.
            """,
        version: swiftletVersion)

    @Option(help: "The vhost-user socket QEMU connects to, made with mode 0600.")
    var vhostSocket: String

    @Option(help: "The socket for host programs, made with mode 0600.")
    var hostSocket: String

    @Option(help: "The guest's context id, 3 or more.")
    var guestCid: UInt64

    @Option(
        help: """
            QEMU's user, as UID:GID or by name: it alone is served, and the process becomes it once both sockets listen; needs root. \
            Without it, both are the process's own.
            """)
    var user: String?

    @Option(help: "Write one byte to this descriptor and close it once both sockets listen.")
    var readyFd: Int32?

    @Option(help: "error, info or debug.")
    var logLevel: DeviceLogLevel = .error

    mutating func run() throws {
        // Before anything can be asked to end, so that no signal leaves the sockets behind.
        let termination = clinux_signalfd_for_termination()
        guard termination >= 0 else { throw SwiftletError(.internal, "cannot receive signals: \(String(cString: strerror(errno)))") }
        var files = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files) == 0 {
            files.rlim_cur = min(files.rlim_max, 4096)
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files)
        }
        let confinement = try Confinement(user: user)
        let device = try VsockDevice(
            VsockDeviceOptions(
                vhostSocket: vhostSocket, hostSocket: hostSocket, guestCID: guestCid, machineUser: confinement.uid, logLevel: logLevel))
        // Before the first byte of the guest.
        try confinement.apply()
        if let readyFd {
            var byte: UInt8 = 1
            guard write(readyFd, &byte, 1) == 1 else {
                throw SwiftletError(.invalidArgument, "cannot write to --ready-fd \(readyFd): \(String(cString: strerror(errno)))")
            }
            close(readyFd)
        }
        _ = try device.run(until: termination)
    }
}
