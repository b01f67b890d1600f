import CRI
import Foundation
import GRPC
import Glibc
import Linux
import Support
import Testing

/// Probes, kubectl, and what ends beside a machine that runs.
extension DebianVMTests {
    @Test func execProbesRunByTheGuestsAgent() async throws {
        #expect(try await node.exec(fixed.container, ["/bin/sh", "-c", "exit 3"]).exitCode == 3)
        let probe = try await node.exec(fixed.container, ["systemctl", "is-active", "ssh"], timeout: 10)
        #expect(probe.exitCode == 0 && String(decoding: probe.stdout, as: UTF8.self) == "active\n")
        let begin = ContinuousClock.now
        let late = await refusal { _ = try await node.exec(fixed.container, ["/bin/sleep", "600"], timeout: 2) }
        #expect(late?.code == .deadlineExceeded && ContinuousClock.now - begin < .seconds(30), "\(String(describing: late))")
    }

    @Test func kubectlForwardsAPortToTheGuestsServer() async throws {
        let api = try node.kubernetes(containers: [:], sandboxes: ["p": fixed.pod])
        defer { api.stop() }
        let client = try Kubectl(["port-forward", "p", ":22"], server: api, home: node.environment.scratch + "/home")
        var port: UInt16 = 0
        try await eventually("kubectl listens: \(client.stderr)") {
            let text = String(decoding: client.stdout, as: UTF8.self)
            port = text.firstMatch(of: /127\.0\.0\.1:(\d+) ->/).flatMap { UInt16($0.1) } ?? 0
            return port > 0
        }
        let session = try await machines.ssh(
            fixed, "debian", .key(machines.keys.secret), "head -c 3000000 /dev/zero | md5sum; hostname", port: port)
        #expect(session.outputText.hasSuffix("\nfixed\n"), "\(session) \(client.stderr)")
        client.process.terminate()
        _ = try await client.exit()
    }

    @Test func kubectlAttachesToTheConsoleAndLogsIn() async throws {
        let api = try node.kubernetes(containers: ["p": fixed.container])
        defer { api.stop() }
        let client = try Kubectl(["attach", "-i", "p"], server: api, home: node.environment.scratch + "/home")
        func types(_ text: String, until shown: String) async throws {
            try client.write(Data(text.utf8))
            try await eventually("\(shown) is shown: \(String(decoding: client.stdout, as: UTF8.self).suffix(500)) \(client.stderr)") {
                String(decoding: client.stdout, as: UTF8.self).contains(shown)
            }
        }
        // The console's last lines come first.
        try await types("", until: "fixed login:")
        try await types("testuser\n", until: "Password:")
        try await types("testuser\n", until: "testuser@fixed")
        try await types("echo sum $((20 + 22)); exit\n", until: "sum 42")
        client.process.terminate()
        _ = try await client.exit()
        try await eventually("and the log has it") { try node.logText("fixed.log").contains("sum 42") }
    }

    @Test func theMachineGoesOnWithoutTheDaemon() async throws {
        let booted = try await fixed("cat /proc/sys/kernel/random/boot_id")
        _ = try await fixed("systemd-run --quiet --collect --unit ticking sh -c 'while sleep 1; do echo tick >/dev/ttyS0; done'")
        await node.kill()
        let ticks = try node.logText("fixed.log").matches(of: /tick/).count
        try await eventually("the log goes on") { try node.logText("fixed.log").matches(of: /tick/).count > ticks }
        let address = try await {
            try await node.launch(); return try await machines.address(of: fixed)
        }()
        #expect(try await fixed("systemctl stop ticking; cat /proc/sys/kernel/random/boot_id") == booted)
        #expect(try await fixed("ip route").contains("default via 10.88.0.1"))
        _ = try await fixed("ping -c 1 -W 10 10.88.0.1")
        let ping = try await Spawn("/bin/busybox", ["ping", "-c", "1", "-W", "10", address]).run()
        #expect(ping.succeeded)
        try machines.volumes.update(configMap: "settings", ["colour": "red\n", "size": "3\n"])
        try await eventually("mounts go on", within: .seconds(20)) { try await fixed("cat /etc/settings/colour") == "red" }
        // Its lease is renewed by the daemon that has come.
        _ = try await dynamic("networkctl renew $(ip -4 -o addr | awk '/10\\.88\\./ { print $2 }')")
        #expect(try await node.status(of: fixed.container).state == .containerRunning)
    }
}
