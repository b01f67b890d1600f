import CRI
import Foundation
import Glibc
import Linux
import Support
import Testing

/// Links and packet filters that the guest's kernel has as modules, for containers that know nothing of modules.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("netmod"))
struct NetworkModuleTests {
    /// Not by its name alone: busybox's shell takes its own of that name.
    private static let ip = "/usr/sbin/ip"

    /// The kinds of links, each by the command that makes one.
    private static let links = [
        "br0 type bridge", "v0 type veth peer name v1", "d0 type dummy", "link eth0 name mv0 type macvlan mode bridge",
        "link d0 name iv0 type ipvlan", "link eth0 name vl0 type vlan id 5", "vx0 type vxlan id 42 dstport 4789 dev eth0 remote 10.88.0.1",
        "wg0 type wireguard", "ifb0 type ifb", "bond0 type bond", "vrf0 type vrf table 10", "gv0 type geneve id 7 remote 10.88.0.1",
        "gre1 type gre remote 10.88.0.1 local 10.88.0.2",
    ]

    /// Tables of every kind; a connection that one of them leads elsewhere, and the kernel's list of connections.
    private static let filters = """
        set -e
        nft add table ip t
        nft add chain ip t post '{ type nat hook postrouting priority 100; }'
        nft add rule ip t post oifname eth0 masquerade
        nft add table inet f
        nft add set inet f blocked '{ type ipv4_addr; flags interval; }'
        nft add chain inet f in '{ type filter hook input priority 0; }'
        nft add rule inet f in ip saddr @blocked ct state new limit rate 5/second log reject
        iptables-legacy -t nat -A OUTPUT -p tcp -d 127.0.0.1 --dport 81 -m comment --comment test -j REDIRECT --to-ports 8080
        iptables-legacy -t mangle -A POSTROUTING -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
        iptables-legacy -A INPUT -m conntrack --ctstate INVALID -m multiport -p tcp --dports 1,2 -j DROP
        ip6tables-legacy -t nat -A POSTROUTING -o eth0 -j MASQUERADE
        iptables-nft -A INPUT -p tcp --dport 9 -m connmark --mark 1 -j REJECT
        iptables-nft -t nat -A POSTROUTING -s 192.0.2.0/24 -j SNAT --to-source 10.88.0.2
        (echo led | nc -l -p 8080) &
        until grep -q ':1F90 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done
        nc -w 5 127.0.0.1 81 </dev/null
        conntrack -L 2>/dev/null | grep -c 'dport=81 .*sport=8080'
        nft list chain ip t post | grep -c masquerade
        iptables-legacy -t nat -S OUTPUT | grep -c 'REDIRECT --to-ports 8080'
        iptables-nft -S INPUT 2>/dev/null | grep -c REJECT
        """

    private static let modules = "cut -d ' ' -f 1 /proc/modules | sort"

    private func loadTools(_ node: Node) async throws {
        let registry = try await TestRegistry.start()
        defer { registry.stop() }
        try await registry.push(try await NetworkTools.image(), "tools", tag: "latest")
        _ = try await node.cri.call(ImageRPC.pullImage, .with { $0.image.image = "\(registry.host)/tools:latest" })
    }

    private func run(
        _ node: Node, _ pod: String, _ name: String, _ change: @Sendable (inout CRILinuxContainerSecurityContext) -> Void
    ) async throws -> String {
        let images = try await node.cri.call(ImageRPC.listImages, CRIListImagesRequest()).images
        let image = try #require(images.first { $0.repoTags.contains { $0.hasSuffix("/tools:latest") } })
        let container = try await node.createContainer(in: pod, name, ["/bin/sleep", "6000"], image: image.id) {
            $0.linux.securityContext.namespaceOptions.pid = .container
            change(&$0.linux.securityContext)
        }
        try await node.start(container)
        return container
    }

    private func checkLinks(_ node: Node, _ container: String) async throws {
        for link in Self.links {
            let made = try await node.exec(container, ["/bin/sh", "-c", "\(Self.ip) link add \(link) 2>&1"])
            #expect(made.exitCode == 0, "\(link): \(String(decoding: made.stdout, as: UTF8.self))")
        }
        let bridged = try await node.shell(
            container, "\(Self.ip) link set v1 master br0 && \(Self.ip) link show br_netfilter; ls /proc/sys/net/bridge")
        #expect(bridged.contains("bridge-nf-call-iptables"), "\(bridged)")
    }

    private func checkFilters(_ node: Node, _ container: String) async throws {
        let seen = try await node.shell(container, Self.filters)
        #expect(seen == "led\n1\n1\n1\n1\n", "\(seen)")
    }

    @Test func containersThatMayAdministerNetworksHaveLinksAndFilters() async throws {
        let node = try node()
        try await loadTools(node)
        let before = try await Footprint.now(node)
        let pod = try await node.runPod("privileged")
        let privileged = try await run(node, pod, "privileged") { $0.privileged = true }
        try await checkLinks(node, privileged)
        try await checkFilters(node, privileged)
        try await node.removePod(pod)

        // Without any right but that one, below the default filter; and the daemon knows after its restart who has the disk.
        let other = try await node.runPod("admin")
        let administer = { @Sendable (context: inout CRILinuxContainerSecurityContext) in
            context.seccomp.profileType = .runtimeDefault
            context.capabilities.addCapabilities = ["NET_ADMIN", "NET_RAW"]
        }
        let administrator = try await run(node, other, "admin", administer)
        try await checkFilters(node, administrator)
        await node.kill()
        try await node.launch()
        try await checkLinks(node, administrator)
        // As long as one of them is there.
        let second = try await run(node, other, "second", administer)
        let ordinary = try await run(node, other, "ordinary") { _ in }
        #expect(try await node.shell(ordinary, "\(Self.ip) link add d1 type dummy").contains("Operation not permitted"))
        // More requests than the kernel has served at a time (kernel/module/kmod.c: 50).
        let storm = "for i in $(seq 120); do \(Self.ip) link show none$i & done 2>&1 | grep -c 'does not exist'"
        #expect(try await node.shell(administrator, storm) == "120\n")
        try await node.removeContainer(administrator)
        #expect(try await node.shell(second, "\(Self.ip) link add n0 type nlmon && echo made") == "made\n")
        let look = "grep -c ' sd[a-z]*$' /proc/partitions; cat /proc/sys/kernel/modprobe"
        let had = try await node.shell(ordinary, look).split(separator: "\n")
        let disks = try #require(had.first.flatMap { Int($0) })
        #expect(had.last == "/sbin/modprobe", "\(had)")
        try await node.removeContainer(second)
        try await eventually("the disk is unplugged", within: .seconds(60)) { try await node.shell(ordinary, look) == "\(disks - 1)\n\n" }
        try await node.removePod(other)
        try await before.expectNothingAdded(node)
    }

    @Test func theOthersLoadNothing() async throws {
        let node = try node()
        try await loadTools(node)
        let pod = try await node.runPod("ordinary")
        let container = try await run(node, pod, "ordinary") { _ in }
        // The guest goes on loading its own for some seconds.
        try await Task.sleep(for: .seconds(10))
        let before = try await node.shell(container, Self.modules)
        for link in Self.links where !link.contains("link ") {
            let seen = try await node.shell(container, "\(Self.ip) link add \(link)")
            #expect(seen.contains("Operation not permitted"), "\(link): \(seen)")
        }
        // With every right in namespaces of its own, as anybody may have them, and by names that the kernel asks for without any.
        let own = """
            unshare -U -r -n \(Self.ip) link add d0 type dummy
            unshare -U -r -n \(Self.ip) link add w0 type wireguard
            unshare -U -r -n nft add table ip t
            unshare -U -r -n iptables-nft -S
            \(Self.ip) link show br_netfilter; conntrack -L; nft list ruleset
            """
        #expect(try await !node.shell(container, own).isEmpty)
        #expect(try await node.shell(container, Self.modules) == before)
        #expect(try await node.shell(container, "cat /proc/sys/kernel/modprobe") == "\n")
        try await node.removePod(pod)
    }
}

/// The guest's files are another kernel's by the time that a container of an older machine asks.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(10)), .serialized)
struct ForeignModuleTests {
    private func foreignModules(_ environment: Node.Environment) async throws -> String {
        let (tree, image) = ("\(environment.scratch)/modules", "\(environment.scratch)/foreign.erofs")
        try FileManager.default.createDirectory(atPath: tree + "/aliases", withIntermediateDirectories: true)
        try "5.0.0-other\n".write(toFile: tree + "/release", atomically: true, encoding: .utf8)
        let made = try await Spawn("/usr/bin/mkfs.erofs", ["--quiet", image, tree]).run()
        try #require(made.succeeded, "\(made.errorText)")
        chmod(image, 0o644)
        return image
    }

    @Test func modulesOfAnotherKernelAreNotLoadedAndTheConsoleSaysSo() async throws {
        let node = try Node("foreign", options: .init(modules: try await foreignModules(try .current())))
        do {
            try await node.start()
            try await node.loadSampleImage()
            let pod = try await node.runPod("old")
            let container = try await node.runContainer(in: pod, "privileged", ["/bin/sleep", "6000"]) {
                $0.linux.securityContext.privileged = true
            }
            #expect(try await node.shell(container, "ip link add d0 type dummy || cat /proc/sys/kernel/modprobe").hasPrefix("\n"))
            var written = ""
            if case .string(let console)? = try await node.details(of: pod)["console"] {
                written = try String(contentsOfFile: console, encoding: .utf8)
            }
            #expect(written.contains("of kernel 5.0.0-other, not 6"), "\(written.suffix(500))")
        } catch {
            await node.destroy()
            throw error
        }
        await node.destroy()
    }
}
