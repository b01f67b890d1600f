import CRI
import Foundation
import Glibc
import Linux
import Testing

/// What the processes of pods on the node are allowed, and what stands open to others.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("confine"))
struct ConfinementTests {
    /// A pod with a volume, and what of it is on the node.
    private struct Subject {
        let id: String
        let user: UInt32
        let qemu: Int32
        let vsockd: Int32
        /// The first has forked the second.
        let virtiofsd: [Int32]

        var short: String { String(id.prefix(13)) }
        var processes: [Int32] { [qemu, vsockd] + virtiofsd }
    }

    private static func kvm() throws -> UInt32 { try #require(getgrnam("kvm")).pointee.gr_gid }

    private func subject(_ node: Node, _ name: String) async throws -> Subject {
        let data = "\(node.root)/volume-\(name)"
        try FileManager.default.createDirectory(atPath: data, withIntermediateDirectories: true)
        let id = try await node.runPod(name)
        let container = try await node.runContainer(in: id, name, ["/bin/sleep", "6000"]) {
            $0.mounts = [.host(data, "/data")]
        }
        #expect(try await node.shell(container, "echo \(name) > /data/f; cat /data/f") == "\(name)\n")
        let short = String(id.prefix(13))
        let range = try UserRange(first: node.users.first, count: node.users.count)
        let own = ProcessTable.running(as: range.ids).compactMap { found -> (pid: Int32, user: UInt32, arguments: [String])? in
            guard let arguments = ProcessTable.arguments(of: found.process.pid), arguments.contains(where: { $0.contains(short) })
            else { return nil }
            return (found.process.pid, found.user, arguments)
        }
        let qemu = try #require(own.first { $0.arguments.contains("-uuid") })
        let vsockd = try #require(own.first { $0.arguments.contains("--vhost-socket") })
        #expect(own.count == 2 && qemu.user == vsockd.user, "\(own)")
        let servers = ProcessTable.all(of: [0]) { $0.contains { $0.hasPrefix("source=\(node.run)/pods/\(short)") } }.map(\.pid)
        #expect(servers.count == 2)
        return Subject(id: id, user: qemu.user, qemu: qemu.pid, vsockd: vsockd.pid, virtiofsd: servers.sorted())
    }

    @Test func aMachineThatIsBrokenOutOfIsNobodyToOtherPods() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let (one, other) = (try await subject(node, "one"), try await subject(node, "other"))
        #expect(one.user != other.user)
        try await checkThreads(node, one)
        try checkDescriptors(node, one, other)
        try await checkIntruders(node, one, other)
        try await checkRestart(node, one)
        for pod in [one, other] {
            try await node.stopPod(pod.id)
            #expect(ProcessTable.running(as: pod.user...pod.user).isEmpty)
            try await node.removePod(pod.id)
        }
        for name in ["one", "other"] { try FileManager.default.removeItem(atPath: "\(node.root)/volume-\(name)") }
        try await before.expectNothingAdded(node)
    }

    // MARK: Rights

    private struct Posture: Equatable {
        var uids: Set<UInt32>
        var gids: Set<UInt32>
        var groups: Set<UInt32>
        /// Permitted or effective or inheritable or ambient.
        var capabilities: UInt64
        var bounding: UInt64
        var seccomp: String
        var noNewPrivileges: String

        init(_ pid: Int32, _ thread: String) throws {
            let text = try #require(KernelFile.text("/proc/\(pid)/task/\(thread)/status"))
            let pairs = text.split(separator: "\n").compactMap { line -> (String, String)? in
                let parts = line.split(separator: ":", maxSplits: 1)
                return parts.count == 2 ? (String(parts[0]), parts[1].trimmingCharacters(in: .whitespaces)) : nil
            }
            let fields = Dictionary(pairs) { first, _ in first }
            func ids(_ name: String) -> Set<UInt32> {
                Set((fields[name] ?? "").split(whereSeparator: \.isWhitespace).compactMap { UInt32($0) })
            }
            func set(_ name: String) throws -> UInt64 { try #require(UInt64(fields[name] ?? "", radix: 16)) }
            (uids, gids, groups) = (ids("Uid"), ids("Gid"), ids("Groups"))
            capabilities = try ["CapInh", "CapPrm", "CapEff", "CapAmb"].map(set).reduce(0, |)
            bounding = try set("CapBnd")
            (seccomp, noNewPrivileges) = (fields["Seccomp"] ?? "", fields["NoNewPrivs"] ?? "")
        }
    }

    private static func threads(_ pid: Int32) throws -> [(name: String, posture: Posture)] {
        try KernelFile.names(in: "/proc/\(pid)/task").map { ($0, try Posture(pid, $0)) }
    }

    private func checkThreads(_ node: Node, _ pod: Subject) async throws {
        let kvm = try Self.kvm()
        for pid in [pod.qemu, pod.vsockd] {
            for (name, posture) in try Self.threads(pid) {
                let what = "thread \(name) of \(pid == pod.qemu ? "QEMU" : "vsockd"): \(posture)"
                #expect(posture.uids == [pod.user] && posture.gids == [kvm] && posture.groups.isSubset(of: [kvm]), "\(what)")
                // libvirt leaves QEMU the bounding set, of which no_new_privs makes nothing.
                #expect(posture.capabilities == 0 && (posture.bounding == 0 || pid == pod.qemu), "\(what)")
                #expect(posture.seccomp == "2" && posture.noNewPrivileges == "1", "\(what)")
            }
        }
        for (name, posture) in try Self.threads(try #require(node.streamDaemon).pid) {
            let what = "thread \(name) of swiftlet-streamd: \(posture)"
            #expect(posture.capabilities == 0 && posture.bounding == 0, "\(what)")
            #expect(posture.seccomp == "2" && posture.noNewPrivileges == "1", "\(what)")
        }
        // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID, SETFCAP; then SETPCAP and SYS_ADMIN, for the set-up.
        let (work, setUp): (UInt64, UInt64) = (0x8000_00DB, 0x8020_01DB)
        for pid in pod.virtiofsd {
            var unfiltered = 0
            for (name, posture) in try Self.threads(pid) {
                let what = "thread \(name) of virtiofsd \(pid): \(posture)"
                #expect(posture.noNewPrivileges == "1" && posture.bounding & ~setUp == 0 && posture.capabilities & ~setUp == 0, "\(what)")
                if posture.capabilities & ~work != 0 || posture.seccomp != "2" { unfiltered += 1 }
            }
            // The one that waits for work that virtiofsd never has; the parent has its main thread beside it.
            #expect(unfiltered <= (pid == pod.virtiofsd.first ? 2 : 1), "virtiofsd \(pid)")
        }
        func namespace(_ pid: Int32, _ kind: String) -> String? {
            try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/ns/\(kind)")
        }
        let outside = getpid()
        let separate = [(pod.qemu, ["mnt", "net"]), (pod.vsockd, ["net", "ipc", "uts"]), (pod.virtiofsd[1], ["mnt", "net", "pid"])]
        for (pid, kinds) in separate {
            for kind in kinds {
                let own = namespace(pid, kind)
                #expect(own != nil && own != namespace(outside, kind), "\(kind) of \(pid)")
            }
        }
    }

    // MARK: Descriptors

    private func checkDescriptors(_ node: Node, _ pod: Subject, _ other: Subject) throws {
        let own = [
            "\(node.root)/pods/\(pod.short)/", "\(node.root)/pods/scratch/\(pod.short).img", "\(node.run)/pods/\(pod.short)",
            "\(node.root)/images/layers/", "\(node.root)/libvirt/", "\(node.run)/libvirt/",
        ]
        let devices = ["/dev/null", "/dev/net/tun", "/dev/kvm", "/dev/vhost-net", "/dev/urandom", "/dev/pts/ptmx", "/dev/ptmx"]
        for pid in pod.processes {
            for number in try KernelFile.names(in: "/proc/\(pid)/fd") {
                guard let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/fd/\(number)") else { continue }
                let what = "descriptor \(number) of \(pid): \(target)"
                for forbidden in [other.short, "state.sqlite", "/lock", "swiftlet-users", "swiftletd"] {
                    #expect(!target.contains(forbidden), "\(what)")
                }
                // A path of virtiofsd is one of its own root, the pod's share.
                guard target.hasPrefix("/"), !target.hasPrefix("/memfd:"), !pod.virtiofsd.contains(pid) else { continue }
                // Every guest's agent is on one disk, which none can write.
                let isAgent = target == node.environment.guest + "/agent.erofs" && openFlags(pid, number).map { $0 & O_ACCMODE } == O_RDONLY
                #expect(own.contains { target.hasPrefix($0) } || devices.contains(target) || isAgent, "\(what)")
            }
        }
    }

    // MARK: Others

    /// What is in the node's directories, but for what the test has put there.
    private func paths(_ node: Node) -> [String] {
        let own = ["logs", "net.d", "swiftletd.toml", "swiftletd.log", "ipam", "volume-"].map { "\(node.root)/\($0)" }
        return [node.root, node.run].flatMap { top in
            [top] + (FileManager.default.enumerator(atPath: top)?.compactMap { ($0 as? String).map { "\(top)/\($0)" } } ?? [])
        }.filter { path in !own.contains { path.hasPrefix($0) } && !path.contains(".share/share/") }
    }

    /// What everybody may see. A namespace that is open is not entered: setns(2) wants CAP_SYS_ADMIN. libvirt's directories are its
    /// own; in them are names, numbers of processes and its settings.
    private static func isPublic(_ reached: String, _ node: Node) -> Bool {
        if reached.hasPrefix("read \(node.run)/pods/"), reached.hasSuffix(".netns") { return true }
        let (libvirt, running) = ("\(node.root)/libvirt", "\(node.run)/libvirt/")
        if reached.hasPrefix("list \(libvirt)") || reached == "read \(libvirt)/etc/qemu.conf" { return true }
        if reached.hasPrefix("list \(running)") { return true }
        return reached.hasPrefix("read \(running)qemu/") && reached.hasSuffix(".pid")
    }

    private func checkIntruders(_ node: Node, _ one: Subject, _ other: Subject) async throws {
        let kvm = try Self.kvm()
        let all = paths(node)
        // libvirt's, which has 20 characters of the name.
        let suffix = "-swiftlet-\(other.short.prefix(11))"
        let domain = try #require(all.first { $0.hasSuffix(suffix) && $0.contains("/libvirt/lib/qemu/domain-") })
        let others = all.filter { $0.contains(other.short) || $0.hasPrefix(domain) }
        #expect(others.contains { $0.hasSuffix("/virtiofs") } && others.contains { $0.hasSuffix("/\(other.short).img") })
        let aims = Intruder.Aims(processes: other.processes, paths: others)

        // As itself it reaches itself: the intruder is no fool.
        let itself = try await Intruder(uid: other.user, gid: kvm).reaches(aims)
        for reached in ["memory \(other.qemu)", "signal \(other.vsockd)", "write \(node.root)/pods/scratch/\(other.short).img"] {
            #expect(itself.contains(reached), "\(itself)")
        }
        #expect(itself.contains("connect \(node.run)/pods/\(other.short)/virtiofs"))
        // The host's side of the guest's ports is root's.
        #expect(!itself.contains("connect \(node.run)/pods/\(other.short)/vsock"))

        let shared = try #require(getpwnam("libvirt-qemu")).pointee.pw_uid
        for (uid, gid) in [(one.user, kvm), (shared, kvm), (65534, kvm), (65534, 65534)] {
            let reached = try await Intruder(uid: uid, gid: gid).reaches(aims).filter { !Self.isPublic($0, node) }
            #expect(reached == [], "user \(uid), group \(gid)")
        }
        let local = try await Intruder(uid: 65534, gid: 65534).reaches(Intruder.Aims(paths: all))
        #expect(local.filter { !Self.isPublic($0, node) } == [], "what any local user reaches")
        // Images are read by machines, which are in this group and have no other in common.
        let member = try await Intruder(uid: 65534, gid: kvm).reaches(Intruder.Aims(paths: all))
        let layers = all.filter { $0.hasSuffix(".erofs") }.map { "read \($0)" }
        #expect(!layers.isEmpty && Set(member.filter { !Self.isPublic($0, node) }) == Set(layers), "\(member)")
    }

    /// A restarted daemon gives nobody an id that is taken, and knows whose it is.
    private func checkRestart(_ node: Node, _ pod: Subject) async throws {
        await node.kill()
        try await node.launch()
        let third = try await subject(node, "third")
        #expect(ProcessTable.running(as: third.user...third.user).map(\.process.pid).sorted() == [third.qemu, third.vsockd].sorted())
        #expect(ProcessTable.running(as: pod.user...pod.user).map(\.process.pid).sorted() == [pod.qemu, pod.vsockd].sorted())
        try await node.removePod(third.id)
        try FileManager.default.removeItem(atPath: "\(node.root)/volume-third")
    }
}

/// Of an open file of a process, as open(2) has them.
func openFlags(_ pid: Int32, _ descriptor: String) -> Int32? {
    KernelFile.text("/proc/\(pid)/fdinfo/\(descriptor)")?.split(separator: "\n").first { $0.hasPrefix("flags:") }
        .flatMap { $0.split(separator: "\t").last }.flatMap { Int32($0, radix: 8) }
}
