import Concurrency
import Errors
import Foundation
import Glibc
import QemuGuestAgent
import Testing

/// The small virtual machine of images/samples, under QEMU alone.
@Suite(.serialized, .enabled(if: systemTestsEnabled), .timeLimit(.minutes(10))) struct SmallVMTests {
    @Test func itBootsIn96MiBAndItsAgentAnswersAndThePowerButtonEndsIt() async throws {
        let disk = URL(fileURLWithPath: ProcessInfo.processInfo.environment["SWIFTLET_GUEST"] ?? ".build/guest")
            .deletingLastPathComponent().appending(path: "samples/small-vm.qcow2").path
        try #require(FileManager.default.fileExists(atPath: disk), "make samples")
        let directory = FileManager.default.temporaryDirectory.appending(path: "small-vm-\(UUID())").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let (console, agentSocket, monitor) = (directory + "/console", directory + "/agent", directory + "/monitor")
        let machine = try VsockProcess(
            "/usr/bin/qemu-system-x86_64",
            [
                "-machine", "q35,accel=tcg", "-cpu", "max", "-m", "96", "-nodefaults", "-no-user-config", "-display", "none",
                "-drive", "file=\(disk),if=virtio,format=qcow2,snapshot=on", "-serial", "file:\(console)",
                "-device", "virtio-serial-pci", "-chardev", "socket,id=agent,path=\(agentSocket),server=on,wait=off",
                "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
                "-monitor", "unix:\(monitor),server=on,wait=off",
            ], log: directory + "/log")
        defer { machine.kill() }
        let agent = QemuAgent(socket: agentSocket, pool: BlockingPool("guest agents", threads: 2), replies: LargeReplies())
        try await OwnThread.run {
            try VsockProcess.wait("the shell's prompt") {
                let text = (try? String(contentsOfFile: console, encoding: .utf8)) ?? ""
                return text.contains("small-vm: small-vm is ready") && text.contains("small-vm:/root# ")
            }
        }
        try await agent.ping(within: .seconds(30))
        let echo = try await agent.run(
            ["/bin/sh", "-c", "cat; echo \"$0\" >&2; exit 7", "a b"], input: Array("hello".utf8), within: .seconds(30))
        #expect(echo == QemuAgent.Outcome(exitCode: 7, output: Array("hello".utf8), errorOutput: Array("a b\n".utf8), isCut: false))
        let killed = try await agent.run(["/bin/sh", "-c", "kill -9 $$"], within: .seconds(30))
        #expect(killed.exitCode == 137)
        let late = await #expect(throws: SwiftletError.self) {
            _ = try await agent.run(["/bin/sleep", "1000"], within: .seconds(2))
        }
        #expect(late?.code == .deadlineExceeded)
        let sleeping = try await agent.run(["/bin/sh", "-c", "pidof sleep || echo none"], within: .seconds(30))
        #expect(String(decoding: sleeping.output, as: UTF8.self) == "none\n")
        let absent = await #expect(throws: SwiftletError.self) { _ = try await agent.run(["/no/such"], within: .seconds(30)) }
        #expect(absent?.code == .failedPrecondition)
        try await agent.addAuthorizedKeys(["ssh-ed25519 AAAA key"], of: "root", within: .seconds(30))
        let keys = try await agent.run(["cat", "/root/.ssh/authorized_keys"], within: .seconds(30))
        #expect(String(decoding: keys.output, as: UTF8.self).contains("ssh-ed25519 AAAA key"))
        try await OwnThread.run {
            let stream = try VsockStream(path: monitor)
            try stream.write(Array("system_powerdown\n".utf8))
            // QEMU drops what it has not read when the connection ends.
            try withExtendedLifetime(stream) { try VsockProcess.wait("the machine's end") { !machine.isRunning } }
        }
    }
}
