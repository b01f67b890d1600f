import Foundation
import Glibc
import Linux
import Testing

/// Everything that a pod could leave behind on the node, for comparison before and after.
struct Footprint: Equatable, CustomStringConvertible {
    var lines: Set<String>

    /// - Parameter node: whose directories are looked at; files that a daemon keeps for good are left out.
    static func now(_ node: Node) async throws -> Footprint {
        var lines: Set<String> = []
        for command in [
            ["/sbin/ip", "-o", "link"], ["/sbin/ip", "-o", "addr"], ["/usr/sbin/iptables-save"], ["/sbin/tc", "qdisc"],
        ] {
            let result = try await Spawn(command[0], Array(command.dropFirst())).run()
            for line in result.outputText.split(separator: "\n") where !line.hasPrefix("#") {
                lines.insert("\(command[0]) \(normalised(String(line)))")
            }
        }
        for line in try MountedPaths.table().split(separator: "\n") {
            if line.contains(node.run) || line.contains(node.root) { lines.insert("mount \(line)") }
        }
        for group in controlGroups() { lines.insert("control group \(group)") }
        for process in processes() { lines.insert("process \(process)") }
        for directory in [node.run, node.root] {
            for case let path as String in FileManager.default.enumerator(atPath: directory) ?? .init() where !isKept(path) {
                lines.insert("file \(directory)/\(path)")
            }
        }
        // The bridge plugin keeps its bridges, by design.
        return Footprint(lines: lines.filter { !$0.contains("sw-\(node.name)") && !$0.contains("s2-\(node.name)") })
    }

    /// Records what is here now and was not there.
    func expectNothingAdded(_ node: Node, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let left = try await Footprint.now(node).added(since: self)
        #expect(left.isEmpty, "left behind: \(left.joined(separator: "; "))", sourceLocation: sourceLocation)
    }

    /// What is here and was not there.
    func added(since earlier: Footprint) -> [String] {
        lines.subtracting(earlier.lines).sorted()
    }

    var description: String { lines.sorted().joined(separator: "\n") }

    /// Counters, indexes, states and lifetimes change without anything being leaked.
    private static func normalised(_ line: String) -> String {
        [
            #/^\d+: /#, #/\[\d+:\d+\]/#, #/(?:state|mode|qlen|group|valid_lft|preferred_lft) \S+/#, #/<[^>]*>/#,
            #/(?:inet6|link-netnsid|link/ether|brd) \S+/#, #/\d+sec/#,
        ].reduce(line) { text, pattern in text.replacing(pattern, with: "") }
    }

    /// Directories of all hierarchies that a pod could own: the tests' own parents, and what libvirt made for machines.
    private static func controlGroups() -> [String] {
        let root = "/sys/fs/cgroup"
        let hierarchies = [root] + ((try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []).map { "\(root)/\($0)" }
        return hierarchies.flatMap { hierarchy in
            ((try? FileManager.default.contentsOfDirectory(atPath: hierarchy)) ?? []).flatMap { name -> [String] in
                let path = "\(hierarchy)/\(name)"
                if name.hasPrefix("swiftlet-test-\(getpid())") { return [path] }
                guard name == "machine" || name.hasPrefix("machine.slice") else { return [] }
                return ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).filter { $0.contains("swiftlet") }.map {
                    "\(path)/\($0)"
                }
            }
        }
    }

    /// Command lines of the processes in this network namespace that a pod could own.
    private static func processes() -> [String] {
        let own = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/net")
        return ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).filter { Int($0) != nil }.compactMap { pid in
            guard (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/ns/net")) == own,
                let data = KernelFile.bytes("/proc/\(pid)/cmdline", limit: 1 << 20)
            else { return nil }
            let command = String(decoding: data, as: UTF8.self).replacingOccurrences(of: "\0", with: " ")
            let owned = ["qemu", "vsockd", "swtpm", "conmon", "swiftlet-pause"]
            return owned.contains { command.contains($0) } ? "\(pid) \(command.prefix(120))" : nil
        }
    }

    /// Caches, databases and logs of the daemon itself; in host-local's directory all but addresses.
    private static func isKept(_ path: String) -> Bool {
        if path.hasPrefix("ipam") { return !path.contains("/10.") }
        return ["libvirt", "state/", "swiftletd.log", "streamd.", "logs", "images"].contains { path.hasPrefix($0) }
    }
}

/// What is mounted where the test runs.
enum MountedPaths {
    /// /proc/self/mounts as a whole. Foundation ends at the first short read, which the kernel makes after a page.
    static func table() throws -> String {
        String(decoding: try KernelFile.read("/proc/self/mounts", limit: 64 << 20), as: UTF8.self)
    }

    static func all() throws -> [String] {
        try table().split(separator: "\n").map { String($0.split(separator: " ")[1]) }
    }
}
