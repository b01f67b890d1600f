import Foundation
import Linux
import Testing

@testable import Volumes

@Suite(.enabled(if: geteuid() == 0))
final class ShareDaemonTests {
    private let directory = NSTemporaryDirectory() + "share-daemon-\(UInt32.random(in: 0 ... .max))"
    private let daemon: ShareDaemon

    /// A stand-in for virtiofsd.
    init() throws {
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let binary = directory + "/virtiofsd"
        // It waits without a child: a shell that forks shows its command line twice for a moment.
        try #require(mkfifo(directory + "/never", 0o600) == 0)
        try "#!/bin/sh\nread -r line < \(directory)/never\n".write(toFile: binary, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: binary)
        daemon = ShareDaemon(binary: binary)
    }

    deinit {
        try? daemon.stop(root: directory, processes: [])
        try? FileManager.default.removeItem(atPath: directory)
    }

    private func start() throws -> ProcessIdentity {
        try daemon.start(root: directory, socket: directory + "/socket", uid: getuid(), gid: getgid())
    }

    @Test func itHasNoCapabilityButThoseOfItsWorkAndItsSetUp() throws {
        let process = try start()
        let status = try String(contentsOfFile: "/proc/\(process.pid)/status", encoding: .utf8)
        // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID, SETPCAP, SYS_ADMIN, SETFCAP (capabilities(7)).
        let expected = "00000000802001db"
        for set in ["CapPrm", "CapEff", "CapBnd"] { #expect(status.contains("\n\(set):\t\(expected)\n"), "\(status)") }
        #expect(status.contains("\nNoNewPrivs:\t1\n"))
        // The thread that started it was one of its own.
        #expect(try !String(contentsOfFile: "/proc/thread-self/status", encoding: .utf8).contains("NoNewPrivs:\t1"))
    }

    @Test func whereTheProcessesAreKnownNoOtherIsLookedFor() throws {
        let (known, other) = (try start(), try start())
        for _ in 0..<2 { try daemon.stop(root: directory, processes: [known]) }
        #expect(!known.isAlive && other.isAlive)
        #expect(daemon.processes(root: directory) == [other])
        try daemon.stop(root: directory + "-other", processes: [])
        #expect(other.isAlive)
        try daemon.stop(root: directory, processes: [])
        #expect(!other.isAlive)
    }
}
