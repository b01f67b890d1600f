import Foundation
import Testing

@testable import Machines

/// As libvirt 9.0 and QEMU 7.2 have written it.
struct DomainLogTests {
    private static let start = """
        2026-11-28 11:54:03.325+0000: starting up libvirt version: 9.0.0, package: 4, qemu version: 7.2.22, kernel: 6.1, hostname: a
        LC_ALL=C \\
        PATH=/usr/bin \\
        /usr/bin/qemu-system-x86_64 \\
        -name guest=swl-a,debug-threads=on \\
        -smbios 'type=1,uuid=79fcaabc-0a8e-4daf-aa65-852e94c1d62d' \\
        -msg timestamp=on
        2026-11-28 11:54:03.325+0000: Domain id=3 is tainted: custom-argv

        """

    @Test(
        arguments: [
            ("", nil),
            ("2026-11-28 11:54:04.000+0000: shutting down, reason=shutdown\n", MachineEnd.poweredOff),
            ("2026-11-28 11:54:04.000+0000: shutting down, reason=destroyed\n", .destroyed),
            ("2026-11-28 11:54:04.000+0000: shutting down, reason=saved\n", .saved),
            ("2026-11-28 11:54:04.000+0000: shutting down, reason=crashed\n", .failed(lastWords: "")),
            ("2026-11-28 11:54:04.000+0000: shutting down, reason=migrated\n", .unseen),
            (
                """
                2026-11-28 11:54:04.000+0000: shutting down, reason=crashed
                2026-11-28T11:54:04.700031Z qemu-system-x86_64: terminating on signal 15 from pid 30604 (/usr/sbin/libvirtd)

                """, .panicked
            ),
            (
                """
                2026-11-28T11:54:03.700031Z qemu-system-x86_64: warning: a\u{1B}[31m
                qemu-system-x86_64: ../softmmu/memory.c:2441: Assertion `x' failed.
                2026-11-28 11:54:04.000+0000: shutting down, reason=failed

                """,
                .failed(
                    lastWords:
                        "qemu-system-x86_64: warning: a?[31m; qemu-system-x86_64: ../softmmu/memory.c:2441: Assertion `x' failed.")
            ),
        ] as [(String, MachineEnd?)])
    func theLastMachinesEndIsRead(rest: String, end: MachineEnd?) {
        let earlier = Self.start + "2026-11-28 11:53:04.000+0000: shutting down, reason=destroyed\n"
        #expect(DomainLog(text: Self.start + rest).end == end)
        #expect(DomainLog(text: earlier + Self.start + rest).end == end)
    }

    @Test func wordsAreBoundedAndOthersLinesAreNotLibvirts() {
        let flood = String(repeating: "qemu: x shutting down, reason=shutdown\n", count: 1000)
        let log = DomainLog(text: Self.start + flood)
        #expect(log.end == nil)
        #expect(log.lastWords.utf8.count <= DomainLog.mostWords && log.lastWords.hasPrefix("qemu: x"))
        #expect(DomainLog(text: "").end == nil)
        #expect(DomainLog(text: "qemu: it\n").lastWords == "qemu: it")
    }

    @Test func logsOfMachinesThatHaveLongEndedGo() throws {
        let directory = "/tmp/swiftlet-domain-logs-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        for name in ["old.log", "running.log", "running.pid", "fresh.log", "old.txt"] {
            try Data().write(to: URL(filePath: "\(directory)/\(name)"))
            guard !name.hasPrefix("fresh") else { continue }
            let attributes = [FileAttributeKey.modificationDate: Date(timeIntervalSinceNow: -100_000)]
            try FileManager.default.setAttributes(attributes, ofItemAtPath: "\(directory)/\(name)")
        }
        DomainLog.prune(directory, pidDirectory: directory)
        DomainLog.prune("\(directory)/absent", pidDirectory: directory)
        let left = try FileManager.default.contentsOfDirectory(atPath: directory).sorted()
        #expect(left == ["fresh.log", "old.txt", "running.log", "running.pid"])
    }

    @Test func aLongLogIsReadFromItsEnd() throws {
        let directory = "/tmp/swiftlet-domain-log-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let noise = String(repeating: "qemu: noise\n", count: 20_000)
        let text = Self.start + noise + "2026-11-28 11:54:04.000+0000: shutting down, reason=failed\n"
        try Data(text.utf8).write(to: URL(filePath: "\(directory)/a.log"))
        let log = try #require(DomainLog(directory: directory, name: "a"))
        #expect(log.lastWords.hasPrefix("qemu: noise") && log.end == .failed(lastWords: log.lastWords))
        #expect(DomainLog(directory: directory, name: "b") == nil && DomainLog(directory: directory, name: "../a") == nil)
        symlink("/etc/passwd", "\(directory)/c.log")
        #expect(DomainLog(directory: directory, name: "c") == nil)
    }
}
