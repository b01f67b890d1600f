import CRI
import Foundation
import Glibc
import Runtime
import Support
import Testing

/// Pods whose machines have waited for them.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(10)), .serialized)
struct PoolTests {
    /// Boots: two, and two behind the claims.
    @Test func podsFromThePoolArePodsOfTheirOwn() async throws {
        let node = try Node("pool", options: Node.Options(pool: 2))
        do {
            try await node.start()
            try await node.loadSampleImage()
            try await waitForPool(node, 2)
            try await Task.sleep(for: .seconds(5))
            try await claimTwo(node)
            try await outliveKill(node)
            await node.stop()
            #expect(try await machines(node).isEmpty, "drained at the end")
        } catch {
            await node.destroy()
            throw error
        }
        await node.destroy()
    }

    /// Boots: two. Emulated vCPUs cannot be added to a machine that runs.
    @Test(.enabled(if: ProcessInfo.processInfo.activeProcessorCount > 1)) func podsOfOtherSizesThanTheDefaultComeFromShapes() async throws {
        let node = try Node("shapes", options: Node.Options(poolShapes: [(128, 1, 1), (256, 2, 1)]))
        do {
            try await node.start()
            try await node.loadSampleImage()
            try await waitForPool(node, 2)
            for (name, memory, cpus) in [("small", 64, 1), ("twice", 192, 2)] {
                let pod = try await node.runPod(name) {
                    $0.linux.resources.memoryLimitInBytes = Int64(memory) << 20
                    $0.linux.resources.cpuPeriod = 100_000
                    $0.linux.resources.cpuQuota = Int64(cpus) * 100_000
                }
                #expect(try await node.details(of: pod)["fromPool"] == .bool(true), "\(name)")
                let id = try await node.runContainer(in: pod, name, ["/bin/nproc"])
                #expect(try await node.exit(of: id).exitCode == 0)
                #expect(try node.log(name) == ["stdout F \(cpus)"])
            }
            let info = try await node.cri.call(RuntimeRPC.status, .with { $0.verbose = true }).info["swiftlet"] ?? ""
            #expect(info.components(separatedBy: "\"hits\":1").count == 3, "\(info)")
        } catch {
            await node.destroy()
            throw error
        }
        await node.destroy()
    }

    /// POOL_ROUNDS says how many of each; the figures are printed.
    @Test func aStartFromThePoolTakesAFractionOfABoot() async throws {
        let rounds = ProcessInfo.processInfo.environment["POOL_ROUNDS"].flatMap { Int($0) } ?? 2
        let node = try Node("poolpace", options: Node.Options(pool: 1))
        do {
            try await node.start()
            try await node.loadSampleImage()
            var (times, creations): ([Bool: [Duration]], [Bool: [Duration]]) = ([:], [:])
            for round in 0..<rounds {
                for isCold in [false, true] {
                    try await waitForPool(node, 1)
                    let began = ContinuousClock.now
                    // A little less than the pool's machines have.
                    let pod = try await node.runPod("pace\(round)\(isCold)") {
                        if isCold { $0.linux.resources.memoryLimitInBytes = 160 << 20 }
                    }
                    times[isCold, default: []].append(began.duration(to: .now))
                    #expect(try await node.details(of: pod)["fromPool"] == .bool(!isCold))
                    let process = try await node.machine(of: pod)
                    let (created, used) = (ContinuousClock.now, Self.processorTime(of: process))
                    _ = try await node.runContainer(in: pod, "pace\(round)\(isCold)", ["/bin/true"])
                    creations[isCold, default: []].append(created.duration(to: .now))
                    let first = Self.processorTime(of: process)
                    _ = try await node.runContainer(in: pod, "more\(round)\(isCold)", ["/bin/true"])
                    print(
                        "\(isCold ? "cold" : "from the pool"): QEMU ran \(Int(first - used)) ms for the first container, "
                            + "\(Int(Self.processorTime(of: process) - first)) for the next")
                    try await node.removePod(pod)
                }
            }
            let (pool, cold) = (try Self.median(times[false]), try Self.median(times[true]))
            print("RunPodSandbox, p50 of \(rounds): from the pool \(pool), cold \(cold); all: \(times)")
            let (first, other) = (try Self.median(creations[false]), try Self.median(creations[true]))
            print("CreateContainer and StartContainer, p50: from the pool \(first), cold \(other)")
            print(Self.steps(of: node).suffix(40).joined(separator: "\n"))
            #expect(pool * 3 < cold)
        } catch {
            await node.destroy()
            throw error
        }
        await node.destroy()
    }

    /// Where the time of starts went, from the daemon's log.
    private static func steps(of node: Node) -> [String] {
        let log = (try? String(contentsOfFile: node.daemonLog, encoding: .utf8)) ?? ""
        return log.split(separator: "\n").compactMap { line in
            line.contains("sandbox start: ") || line.contains("container create: ")
                ? String(line.suffix(from: line.range(of: "after=")?.lowerBound ?? line.startIndex)) : nil
        }
    }

    private static func median(_ times: [Duration]?) throws -> Duration {
        let sorted = try #require(times).sorted()
        return sorted[sorted.count / 2]
    }

    private func claimTwo(_ node: Node) async throws {
        var found: [String: Set<String>] = [:]
        var server = ""
        for name in ["first", "second"] {
            let pod = try await node.runPod(name) { $0.linux.sysctls = ["net.ipv4.ip_local_port_range": "40000 40100"] }
            #expect(try await node.details(of: pod)["fromPool"] == .bool(true))
            let script = """
                hostname; cat /proc/sys/net/ipv4/ip_local_port_range; echo $(date +%s) $(cut -d' ' -f1 /proc/uptime); head -c 32 /dev/urandom | base64
                cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid; cat /sys/class/dmi/id/product_uuid
                for i in /sys/class/net/eth0/address /etc/machine-id; do cat $i 2>/dev/null; done; ip -o addr
                [ -z "\(server)" ] || for i in $(seq 50); do nc -w 3 \(server) 9000 </dev/null 2>/dev/null && break; sleep 0.3; done
                """
            let before = try Self.now()
            let id = try await node.runContainer(in: pod, name, ["/bin/sh", "-c", script])
            #expect(try await node.exit(of: id).exitCode == 0)
            let after = try Self.now()
            let lines = try node.log(name).map { $0.replacingOccurrences(of: "stdout F ", with: "") }
            try #require(lines.count >= 6, "\(lines)")
            #expect(lines[0] == name)
            #expect(lines[1].split(separator: "\t") == ["40000", "40100"])
            let clocks = lines[2].split(separator: " ")
            try #require(clocks.count == 2, "\(lines)")
            // Its own clock stood still while it waited: without the claim's time it would be as much behind.
            let (age, uptime) = (try Self.age(of: try await node.machine(of: pod)), try #require(Double(clocks[1])))
            #expect(age - uptime > 4.5, "\(age) and \(uptime) s")
            // The node's clock jumps; the guest's is a second off at most.
            let time = try #require(Int(clocks[0]))
            #expect((before - 1...max(before, after) + 1).contains(time) || after < before, "\(time) is not \(before) to \(after)")
            let address = try #require(try await node.podStatus(pod).status.network.ip.split(separator: "/").first)
            #expect(lines.contains { $0.contains("eth0") && $0.contains(address) }, "\(lines)")
            if name == "first" {
                server = String(address)
                _ = try await node.runContainer(
                    in: pod, "server", ["/bin/sh", "-c", "while true; do echo from the first | nc -l -p 9000; done"])
            }
            #expect(lines.contains("from the first") == (name == "second"), "\(lines)")
            found[name] = Set(lines[3...].filter { !$0.contains(" lo ") && !$0.contains("eth0") && !$0.hasPrefix("from") })
        }
        let (first, second) = (try #require(found["first"]), try #require(found["second"]))
        #expect(first.count >= 3 && first.isDisjoint(with: second), "\(first) and \(second)")
    }

    /// Of the monotonic clock's moment: the node's wall clock as the guest should have it.
    private static func now() throws -> Int {
        var time = timespec()
        try #require(clock_gettime(CLOCK_REALTIME, &time) == 0)
        return time.tv_sec
    }

    /// Seconds since the start of a process (proc(5): field 22, in ticks of USER_HZ).
    private static func age(of process: pid_t) throws -> Double {
        let stat = try String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)
        let fields = try #require(stat.split(separator: ")").last).split(separator: " ")
        let uptime = try String(contentsOfFile: "/proc/uptime", encoding: .utf8).split(separator: " ")
        return try #require(Double(uptime[0])) - (try #require(Double(fields[19]))) / 100
    }

    /// A control group's memory in bytes, and its processor time in a period.
    private static func limits(_ group: String) throws -> [Substring] {
        let root = "/sys/fs/cgroup"
        let isUnified = FileManager.default.fileExists(atPath: root + "/cgroup.controllers")
        let files =
            isUnified
            ? ["\(group)/memory.max", "\(group)/cpu.max"] : ["/memory\(group)/memory.limit_in_bytes", "/cpu\(group)/cpu.cfs_quota_us"]
        return try files.map { file in
            let text = try String(contentsOfFile: root + file, encoding: .utf8)
            return try #require(text.split { $0 == " " || $0 == "\n" }.first)
        }
    }

    /// Milliseconds that the process's threads have run.
    private static func processorTime(of process: pid_t) -> Double {
        let threads = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/task")) ?? []
        return threads.reduce(0) { sum, thread in
            let text = (try? String(contentsOfFile: "/proc/\(process)/task/\(thread)/schedstat", encoding: .utf8)) ?? ""
            return sum + (text.split(separator: " ").first.flatMap { Double($0) } ?? 0) / 1e6
        }
    }

    private func outliveKill(_ node: Node) async throws {
        try await waitForPool(node, 2)
        let waiting = try await machines(node)
        await node.kill()
        try await node.launch()
        try await waitForPool(node, 2)
        #expect(try await machines(node) == waiting, "taken over, none made anew")
        for pod in ["first", "second"] {
            let id = try await node.cri.call(RuntimeRPC.listPodSandbox, CRIListPodSandboxRequest()).items.first { $0.metadata.name == pod }
            #expect(id?.state == .sandboxReady)
        }
        // More than the machine has: it grows at the claim.
        let parent = "/swiftlet-test-\(getpid())-pool"
        let pod = try await node.runPod("third") {
            $0.linux.resources.memoryLimitInBytes = 320 << 20
            ($0.linux.resources.cpuQuota, $0.linux.resources.cpuPeriod) = (100_000, 100_000)
            ($0.linux.overhead.cpuQuota, $0.linux.overhead.cpuPeriod, $0.linux.overhead.memoryLimitInBytes) = (50_000, 100_000, 192 << 20)
            $0.linux.cgroupParent = parent
        }
        #expect(try await node.details(of: pod)["fromPool"] == .bool(true))
        let process = try await node.machine(of: pod)
        #expect(waiting.contains(process))
        let groups = try String(contentsOfFile: "/proc/\(process)/cgroup", encoding: .utf8)
        #expect(groups.contains("\(parent)/\(pod)"), "\(groups)")
        #expect(try Self.limits("\(parent)/\(pod)") == ["536870912", "150000"])
        let id = try await node.runContainer(in: pod, "third", ["/bin/grep", "MemTotal", "/proc/meminfo"])
        #expect(try await node.exit(of: id).exitCode == 0)
        let memory = try #require(try node.log("third").first?.split(separator: " ").dropLast().last.flatMap { Int($0) })
        #expect(memory > 320 << 10, "\(memory) KiB")
        for pod in try await node.cri.call(RuntimeRPC.listPodSandbox, CRIListPodSandboxRequest()).items {
            try await node.stopPod(pod.id)
            try await node.removePod(pod.id)
        }
    }

    private func waitForPool(_ node: Node, _ size: Int) async throws {
        try await eventually("\(size) machines wait; daemon: \(node.tail(node.daemonLog))", within: .seconds(120)) {
            let info = try await node.cri.call(RuntimeRPC.status, .with { $0.verbose = true }).info["swiftlet"] ?? ""
            return info.contains("\"waiting\":\(size)")
        }
    }

    /// The node's QEMUs.
    private func machines(_ node: Node) async throws -> Set<pid_t> {
        let processes = try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }
        return Set(
            processes.filter { process in
                let line =
                    FileManager.default.contents(atPath: "/proc/\(process)/cmdline").map { String(decoding: $0, as: UTF8.self) } ?? ""
                return line.contains("qemu-system") && line.contains(node.root + "/")
            })
    }
}
