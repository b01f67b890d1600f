import Foundation
import Support
import Testing

/// `make install`, without what it would have to build first.
@Suite struct InstallTests {
    private func run(_ program: String, _ arguments: [String]) throws -> (status: Int32, output: String) {
        let (process, pipe) = (ChildProcess(), Pipe())
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let output = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: output, as: UTF8.self))
    }

    @Test func aNodeGetsProgramsGuestUnitAndAConfigurationOnce() throws {
        let files = FileManager.default
        let directory = files.temporaryDirectory.appending(path: "install-\(UUID())")
        defer { try? files.removeItem(at: directory) }
        let (programs, guest, root) = (
            directory.appending(path: "programs"), directory.appending(path: "guest"), directory.appending(path: "root")
        )
        for created in [programs, guest] { try files.createDirectory(at: created, withIntermediateDirectories: true) }
        let install = {
            try run(
                Repository.root.appendingPathComponent("scripts/install").path, [root.path, "/opt/swiftlet", programs.path, guest.path])
        }
        let missing = try install()
        #expect(missing.status == 1 && missing.output.contains("swiftletd is missing"))
        let names = [
            "swiftletd", "swiftlet", "swiftlet-vsockd", "swiftlet-streamd", "swiftlet-virgl-probe", "swiftlet-diskinfo", "swiftlet-pause",
        ]
        for name in names { try Data("#!/bin/sh\n".utf8).write(to: programs.appending(path: name)) }
        for name in ["vmlinuz", "initramfs.img", "agent.erofs", "modules.erofs", "tools.iso"] {
            try Data().write(to: guest.appending(path: name))
        }
        let installed = try install()
        #expect(installed.status == 0, "\(installed.output)")
        let prefix = root.appending(path: "opt/swiftlet")
        for program in [
            "sbin/swiftletd", "sbin/swiftlet-vsockd", "sbin/swiftlet-streamd", "sbin/swiftlet-virgl-probe", "sbin/swiftlet-diskinfo",
            "sbin/swiftlet-pause", "bin/swiftlet",
        ] {
            #expect(files.isExecutableFile(atPath: prefix.appending(path: program).path), "\(program)")
        }
        let configuration = root.appending(path: "etc/swiftlet/swiftletd.toml")
        #expect(try String(contentsOf: configuration, encoding: .utf8).contains("\"/opt/swiftlet/lib/swiftlet/guest/vmlinuz\""))

        // Where the unit is to find its program on the node, there is none here.
        var copies: [String] = []
        for (name, line) in [
            ("swiftletd.service", "ExecStart=/opt/swiftlet/sbin/swiftletd\n"),
            ("swiftlet-streamd.service", "ExecStart=/opt/swiftlet/sbin/swiftlet-streamd --control-socket /run/swiftlet/streamd.sock "),
            ("swiftlet-streamd.socket", "ListenStream=/run/swiftlet/streamd.sock\n"),
        ] {
            let unit = try String(contentsOf: prefix.appending(path: "lib/systemd/system/\(name)"), encoding: .utf8)
            #expect(unit.contains(line))
            let copy = directory.appending(path: name)
            try Data(unit.replacing("/opt/swiftlet/sbin", with: prefix.path + "/sbin").utf8).write(to: copy)
            copies.append(copy.path)
        }
        let verified = try run("/usr/bin/systemd-analyze", ["verify"] + copies)
        #expect(verified.status == 0 && verified.output.isEmpty, "\(verified.output)")

        try Data("root = \"/elsewhere\"\n".utf8).write(to: configuration)
        #expect(try install().status == 0)
        #expect(try String(contentsOf: configuration, encoding: .utf8) == "root = \"/elsewhere\"\n")
    }
}
