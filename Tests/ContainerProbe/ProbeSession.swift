import AgentProtocol
import CLinux
import Errors
import Glibc
import GuestAgent
import SwiftProtobuf

/// The containers and processes of one script.
struct ProbeSession {
    private let environment: SandboxEnvironment
    private let scratch: String
    private let cgroup: String
    private var containers: [String: GuestContainer] = [:]
    private var processes: [String: ProbeProcess] = [:]
    /// First processes before their start, by container.
    private var prepared: [String: ProbeProcess] = [:]

    init(arguments: [String]) {
        var options: [String: String] = [:]
        var disks: [String: String] = [:]
        for pair in stride(from: 0, to: arguments.count - 1, by: 2) {
            let value = arguments[pair + 1]
            let parts = value.split(separator: "=", maxSplits: 1).map(String.init)
            switch arguments[pair] {
            case "--layer": disks[parts[0]] = LoopDevice.attach(parts[1])
            case "--disk": disks[parts[0]] = parts[1]
            default: options[arguments[pair]] = value
            }
        }
        scratch = options["--scratch"] ?? "/scratch"
        cgroup = options["--cgroup"] ?? "/sys/fs/cgroup"
        let known = disks
        for (name, content) in [("resolv.conf", "nameserver 10.0.0.10\n"), ("hosts", "127.0.0.1 localhost\n")] {
            Self.write(content, to: "\(scratch)/\(name)")
        }
        environment = SandboxEnvironment(
            scratchDirectory: scratch,
            diskPath: { (serial) throws(SwiftletError) in
                guard let path = known[serial] else { throw SwiftletError(.notFound, "no disk has the serial \(serial)") }
                return path
            },
            hostname: "probe-pod", resolvConfPath: "\(scratch)/resolv.conf", hostsPath: "\(scratch)/hosts", cgroupRoot: cgroup,
            shared: PodSharedState(scratchDirectory: scratch, cgroupRoot: cgroup))
    }

    /// "ok ..." or "error CODE MESSAGE".
    mutating func answer(_ words: [String]) -> String {
        do {
            return try (["ok"] + run(words)).joined(separator: " ")
        } catch let error as SwiftletError {
            return "error \(error.code.rawValue) \(error)"
        } catch {
            return "error unknown \(error)"
        }
    }

    func end() {
        for container in containers.values { container.release() }
        environment.shared.release()
    }

    private mutating func run(_ words: [String]) throws -> [String] {
        switch words.first {
        case "create":
            let spec = try AgentContainerSpec(serializedBytes: bytes(words[2]))
            containers[words[1]] = try GuestContainer(id: words[1], spec: spec, environment: environment)
            return []
        case "early":
            try container(words[1]).prepareEarly()
            return []
        case "prepare":
            let process = ProbeProcess(terminal: words.last == "terminal")
            let user = try container(words[1]).prepare(stdio: process.descriptors)
            process.wasGiven()
            prepared[words[1]] = process
            return ["\(user.uid)", "\(user.gid)", user.additionalGIDs.map(String.init).joined(separator: ",")]
        case "start":
            let pid = try container(words[1]).start()
            guard let process = prepared.removeValue(forKey: words[1]) else { throw SwiftletError(.failedPrecondition, "not prepared") }
            process.started(pid)
            processes[words[2]] = process
            return ["\(process.pid)"]
        case "exec":
            let spec = try AgentProcessSpec(serializedBytes: bytes(words[4]))
            let terminal = spec.terminal ? try container(words[1]).openTerminal() : nil
            let process = terminal.map { ProbeProcess(master: $0.master, slave: $0.slave) } ?? ProbeProcess(terminal: spec.terminal)
            process.started(try container(words[1]).exec(spec, inherit: words[3] == "inherit", stdio: process.descriptors))
            processes[words[2]] = process
            return ["\(process.pid)"]
        case "wait":
            guard let result = processes[words[1]]?.finish() else { throw SwiftletError(.deadlineExceeded, "\(words[1]) does not end") }
            processes[words[1]] = nil
            return ["\(result.code)"] + result.output.map(hex)
        case "signal":
            try container(words[1]).signalAll(Int32(words[2]) ?? 0)
            return []
        case "update":
            let files = try AgentResources(serializedBytes: bytes(words[2])).unified
            try container(words[1]).update(files)
            return []
        case "oom": return ["\(try container(words[1]).oomKillCount)"]
        case "release":
            try container(words[1]).release()
            prepared[words[1]] = nil
            return []
        case "repeat": return [try repeatExec(words)]
        case "held": return [held()]
        case "spawn": return [Self.repeatSpawn(Int(words[1]) ?? 1)]
        case "share-release":
            environment.shared.release()
            return []
        default: throw SwiftletError(.unimplemented, "no such command")
        }
    }

    /// Median microseconds of exec alone, of as many runs as the script says.
    private func repeatExec(_ words: [String]) throws -> String {
        let spec = try AgentProcessSpec(serializedBytes: bytes(words[3]))
        var times: [Int] = []
        for _ in 0..<(Int(words[2]) ?? 1) {
            let process = ProbeProcess(terminal: false)
            var before = timespec()
            var after = timespec()
            clock_gettime(CLOCK_MONOTONIC, &before)
            process.started(try container(words[1]).exec(spec, inherit: true, stdio: process.descriptors))
            clock_gettime(CLOCK_MONOTONIC, &after)
            _ = process.finish()
            times.append((after.tv_sec - before.tv_sec) * 1_000_000 + (after.tv_nsec - before.tv_nsec) / 1000)
        }
        return "\(times.sorted()[times.count / 2])"
    }

    /// Median microseconds until the end of the machine's own busybox, started by posix_spawn: what exec is measured against.
    private static func repeatSpawn(_ count: Int) -> String {
        var times: [Int] = []
        for _ in 0..<count {
            var before = timespec()
            var after = timespec()
            clock_gettime(CLOCK_MONOTONIC, &before)
            var pid: pid_t = 0
            var arguments = [strdup("busybox"), strdup("true"), nil]
            posix_spawn(&pid, "/bin/busybox", nil, nil, &arguments, nil)
            var status: Int32 = 0
            waitpid(pid, &status, 0)
            clock_gettime(CLOCK_MONOTONIC, &after)
            for argument in arguments { free(argument) }
            times.append((after.tv_sec - before.tv_sec) * 1_000_000 + (after.tv_nsec - before.tv_nsec) / 1000)
        }
        return "\(times.sorted()[times.count / 2])"
    }

    /// What the machine still holds for containers: mounts, directories, cgroups, and this process's open files.
    private func held() -> String {
        // Read first: a removal that ends afterwards has closed its files only then.
        let removals = ScratchTrash.removalsInProgress
        let mounts = Self.read("/proc/self/mountinfo").split(separator: "\n").filter { $0.contains(scratch) }.count
        let files = Self.entries("/proc/self/fd").count
        let names = ["\(scratch)/containers", "\(scratch)/trash", "\(cgroup)/swiftlet"].map { directory in
            Self.entries(directory).joined(separator: ",")
        }
        return
            "mounts=\(mounts) containers=[\(names[0])] trash=[\(names[1])] cgroups=[\(names[2])] files=\(files)"
            + " removals=\(removals)"
    }

    private func container(_ id: String) throws -> GuestContainer {
        guard let container = containers[id] else { throw SwiftletError(.notFound, "no container \(id)") }
        return container
    }

    private static func write(_ text: String, to path: String) {
        guard let file = fopen(path, "w") else { return }
        fputs(text, file)
        fclose(file)
    }

    private static func read(_ path: String) -> String {
        guard let file = fopen(path, "r") else { return "" }
        defer { fclose(file) }
        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { text += chunk[..<count] }
        return String(decoding: text, as: UTF8.self)
    }

    /// Names of the directories (for /proc: of everything) in `path`.
    private static func entries(_ path: String) -> [String] {
        guard let stream = opendir(path) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = String(cString: clinux_entry_name(entry))
            let counted = path.hasPrefix("/proc") || entry.pointee.d_type == UInt8(DT_DIR)
            if name != "." && name != ".." && counted { names.append(name) }
        }
        return names.sorted()
    }
}

private func bytes(_ hex: String) -> [UInt8] {
    let digits = Array(hex.utf8)
    return stride(from: 0, to: digits.count - 1, by: 2).compactMap {
        UInt8(String(decoding: digits[$0...$0 + 1], as: UTF8.self), radix: 16)
    }
}

/// Lower-case hexadecimal; "-" for nothing, so that every answer has its words.
private func hex(_ bytes: [UInt8]) -> String {
    if bytes.isEmpty { return "-" }
    let digits = Array("0123456789abcdef".utf8)
    return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}
