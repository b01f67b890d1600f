import CRI
import Foundation
import GRPC
import Glibc
import Linux
import Support
import Testing

/// Debian 12 with its cloud-init, sshd and qemu-guest-agent, as pods: what its cloud-init makes of seeds, and how it is talked to.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, DebianTrait())
struct DebianVMTests {
    let machines: DebianMachines
    var node: Node { machines.node }
    var fixed: VMOfPod { machines.fixed }
    var dynamic: VMOfPod { machines.dynamic }

    init() throws { machines = try #require(DebianMachines.current) }

    func fixed(_ command: String, sourceLocation: SourceLocation = #_sourceLocation) async throws -> String {
        try await machines.guest(fixed, command, sourceLocation: sourceLocation)
    }

    func dynamic(_ command: String, sourceLocation: SourceLocation = #_sourceLocation) async throws -> String {
        try await machines.guest(dynamic, command, sourceLocation: sourceLocation)
    }

    // MARK: Seeds

    @Test func cloudInitEndsWithoutErrors() async throws {
        for (vm, source) in [(fixed, "DataSourceNoCloud"), (dynamic, "DataSourceConfigDrive")] {
            let status = try await machines.guest(vm, "cloud-init status --long")
            #expect(status.contains("status: done") && status.contains(source), "\(vm.name): \(status)")
            let warnings = try await machines.guest(
                vm, "grep -E 'WARNING|ERROR' /var/log/cloud-init.log || true; systemctl --failed --plain --no-legend")
            #expect(warnings.isEmpty, "\(vm.name): \(warnings)")
            #expect(try await machines.guest(vm, "hostname; cat /etc/hostname") == "\(vm.name)\n\(vm.name)")
            let console = try node.logText("\(vm.name).log")
            #expect(console.contains("\(vm.name) login:") && console.contains("finished at"), "\(console.suffix(500))")
        }
        // The dynamic one's is a script.
        let schema = try await fixed("cloud-init schema --system")
        #expect(schema.contains("Valid cloud-config"), "\(schema)")
    }

    @Test func theStaticConfigurationIsThePods() async throws {
        let address = try await machines.address(of: fixed)
        #expect(try await fixed("ip -4 -o addr show eth0").contains(" \(address)/16 "))
        let second = try await fixed("ip -4 -o addr show net1")
        #expect(second.contains(" 10.89.0."), "\(second)")
        #expect(try await fixed("cat /sys/class/net/eth0/mtu /sys/class/net/net1/mtu") == "1500\n1400")
        let routes = try await fixed("ip route")
        #expect(routes.contains("default via 10.88.0.1 dev eth0") && routes.contains("10.90.0.0/16 via 10.89.0.1 dev net1"), "\(routes)")
        let resolver = try await fixed("cat /run/systemd/resolve/resolv.conf")
        #expect(resolver.contains("nameserver 10.88.0.1") && resolver.contains("search test.svc"), "\(resolver)")
        for gateway in ["10.88.0.1", "10.89.0.1"] { _ = try await fixed("ping -c 1 -W 10 \(gateway)") }
    }

    @Test func theDHCPClientGetsWhatThePodHas() async throws {
        let address = try await machines.address(of: dynamic)
        // systemd-networkd marks what it has by DHCP with this metric. Leases do not end.
        let addresses = try await dynamic("ip -4 -o addr").split(separator: "\n").filter { $0.contains(" metric 1024 ") }
        #expect(addresses.contains { $0.contains(" \(address)/16 ") }, "\(addresses)")
        #expect(addresses.contains { $0.contains(" 10.89.0.") } && addresses.count == 2, "\(addresses)")
        let routes = try await dynamic("ip route")
        #expect(routes.contains("default via 10.88.0.1") && routes.contains("10.90.0.0/16 via 10.89.0.1"), "\(routes)")
        #expect(try await dynamic("cat /sys/class/net/*/mtu | sort | tr '\\n' ' '") == "1400 1500 65536")
        let resolver = try await dynamic("cat /run/systemd/resolve/resolv.conf")
        // It takes search domains from nobody unless it is told to.
        #expect(resolver.contains("nameserver 10.88.0.1"), "\(resolver)")
        for gateway in ["10.88.0.1", "10.89.0.1"] { _ = try await dynamic("ping -c 1 -W 10 \(gateway)") }
    }

    @Test func twoMachinesSeeEachOtherInBothNetworks() async throws {
        let addresses = try await dynamic("ip -4 -o addr show scope global").matches(of: /inet ([\d.]+)\//).map { String($0.1) }
        #expect(addresses.count == 2)
        for address in addresses { _ = try await fixed("ping -c 1 -W 10 \(address)") }
    }

    /// By its full name, and by the pod's search domain. A stand-in for the cluster's DNS serves at the node's bridge.
    @Test func aServicesNameIsAskedForAtThePodsNameServer() async throws {
        let server = try RunningCommand(
            "/usr/bin/python3", ["-c", Self.nameServer], environment: [:], in: node.environment.scratch + "/home")
        defer { server.kill(SIGKILL) }
        var answer = ""
        try await eventually("the service is found: \(server.errors)", within: .seconds(60)) {
            answer = try await fixed("getent ahostsv4 web.test.svc || true")
            return !answer.isEmpty
        }
        #expect(answer.hasPrefix("10.96.0.10 "), "\(answer)")
        #expect(try await fixed("getent ahostsv4 web").hasPrefix("10.96.0.10 "))
        #expect(try await dynamic("getent ahostsv4 web.test.svc").hasPrefix("10.96.0.10 "))
        #expect(try await fixed("getent ahostsv4 other.test.svc || echo none") == "none")
    }

    private static let nameServer = """
        import socket
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("10.88.0.1", 53))
        while True:
            query, client = server.recvfrom(4096)
            end = query.index(0, 12) + 5
            known = query[12:end - 4].lower() == b"\\x03web\\x04test\\x03svc\\x00"
            answers = known and query[end - 4:end - 2] == b"\\x00\\x01"
            answer = query[:2] + b"\\x81" + (b"\\x80" if known else b"\\x83") + bytes([0, 1, 0, int(answers), 0, 0, 0, 0]) + query[12:end]
            if answers:
                answer += bytes([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 96, 0, 10])
            server.sendto(answer, client)
        """

    @Test func usersHaveTheirPasswordsAndKeys() async throws {
        let password = try await machines.ssh(fixed, "testuser", .password("testuser"), "id -un; sudo id -un")
        #expect(password.outputText == "testuser\nroot\n", "\(password)")
        let wrong = try await machines.ssh(fixed, "testuser", .password("wrong"), "true")
        #expect(wrong.status == 255 && wrong.errorText.contains("Permission denied"), "\(wrong)")
        for key in [machines.keys.annotation, machines.keys.secret] {
            let login = try await machines.ssh(fixed, "debian", .key(key), "id -un")
            #expect(login.outputText == "debian\n", "\(login)")
        }
    }

    @Test func userDataFilesAndEnvironmentAreThere() async throws {
        #expect(try await fixed("cat /root/written; stat -c %a /root/written; cat /root/runcmd") == "by the ConfigMap640\nran")
        #expect(try await fixed("id -un configured testuser debian") == "configured\ntestuser\ndebian")
        #expect(try await fixed("cat /opt/files/plain /opt/files/coded") == "plain text\ncoded")
        let environment = try await fixed("(. /etc/cloud/environment; echo \"$GREETING\" $PLAIN)")
        #expect(environment == "hello, \"world\" $HOME 1")
        #expect(
            try await dynamic("cat /etc/token/token; grep -c /etc/token /proc/mounts || true") == "secret token\n0",
            "written, and not mounted")
        #expect(try await dynamic("cat /root/script") == "1", "what @virtlet-mount-script@ has mounted again")
    }

    // MARK: Volumes

    @Test func mountsAreTheNodesAndChangeWithIt() async throws {
        let shared = machines.volumes.hostPath("/var/lib/example")
        try "from the node".write(toFile: "\(shared)/file", atomically: true, encoding: .utf8)
        #expect(try await fixed("cat /data/file; echo from the guest >/data/answer") == "from the node")
        #expect(try String(contentsOfFile: "\(shared)/answer", encoding: .utf8) == "from the guest\n")
        #expect(try await fixed("echo x 2>&1 >/etc/settings/new || true").contains("Read-only"))
        for (colour, size) in [("blue", "1"), ("green", "2")] {
            try machines.volumes.update(configMap: "settings", ["colour": colour + "\n", "size": size + "\n"])
            // The guest keeps names for a second.
            try await eventually("the guest sees \(colour)", within: .seconds(20)) {
                try await fixed("cat /etc/settings/colour /etc/settings/size") == "\(colour)\n\(size)"
            }
        }
        #expect(try await fixed("cat /etc/keys/authorized_keys").contains("ssh-ed25519 "))
        #expect(try await fixed("grep -v '^#' /etc/hosts").contains("127.0.0.1 localhost"), "the guest's own")
    }

    @Test func disksAreMountedLinkedAndGrown() async throws {
        #expect(try await fixed("findmnt -no FSTYPE /somevol; echo kept >/somevol/file; cat /somevol/file") == "ext4\nkept")
        #expect(try await dynamic("findmnt -no FSTYPE /somevol; blockdev --getsize64 /dev/raw") == "ext4\n\(32_000_000)")
        _ = try await fixed(
            "printf 'written by the guest' | dd of=/dev/testpvc bs=512 conv=sync,fsync 2>/dev/null; blockdev --flushbufs /dev/testpvc")
        let disk = try FileHandle(forReadingFrom: URL(fileURLWithPath: "\(machines.volumes.directory)/testpvc.disk"))
        #expect(try disk.read(upToCount: 20).map { String(decoding: $0, as: UTF8.self) } == "written by the guest")
        #expect(
            try await fixed("blockdev --getsize64 $(findmnt -no SOURCE /); df -k --output=size / | tail -n 1").split(separator: "\n")
                .allSatisfy { (Int($0.filter(\.isNumber)) ?? 0) > 1_800_000 })
        let grown = try await dynamic("df -k --output=size / | tail -n 1")
        #expect((Int(grown) ?? 0) > 3_800_000, "\(grown) KiB")
        #expect(try await dynamic("findmnt -no SOURCE /").hasPrefix("/dev/vd"))
    }

    // MARK: Devices

    @Test func theGuestsMemoryIsTheLimit() async throws {
        let memory = try await fixed("awk '/^MemTotal/ { print $2 }' /proc/meminfo")
        // The kernel keeps a part for itself.
        #expect((430 << 10...512 << 10).contains(Int(memory) ?? 0), "\(memory) KiB")
    }

    @Test func aUEFIMachineHasItsTPMAndWatchdog() async throws {
        #expect(try await dynamic("ls -d /sys/firmware/efi; cat /sys/class/tpm/tpm0/tpm_version_major") == "/sys/firmware/efi\n2")
        #expect(try await dynamic("[ -c /dev/tpm0 ]; cat /sys/bus/pci/devices/*/device | grep -c 0x25ab") == "1", "Intel's 6300ESB")
        #expect(try await fixed("ls -d /sys/firmware/efi /dev/tpm0 2>/dev/null || echo none") == "none")
    }
}
