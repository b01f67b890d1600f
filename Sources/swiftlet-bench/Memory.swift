import Foundation
import Linux

/// What a process holds of the host's memory, in bytes, from /proc/PID/smaps_rollup (proc(5)).
struct ProcessMemory {
    /// Resident pages, shared ones counted in full.
    var resident: UInt64 = 0
    /// Resident pages, each shared one divided by the number of processes that map it.
    var proportional: UInt64 = 0
    /// Of `proportional`, shared memory: a machine's RAM is a memfd.
    var sharedMemory: UInt64 = 0

    /// Nil when the process is gone.
    init?(pid: Int32) {
        guard let text = try? String(contentsOfFile: "/proc/\(pid)/smaps_rollup", encoding: .utf8) else { return nil }
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count == 3, let kibibytes = UInt64(fields[1]) else { continue }
            switch fields[0] {
            case "Rss:": resident = kibibytes << 10
            case "Pss:": proportional = kibibytes << 10
            case "Pss_Shmem:": sharedMemory = kibibytes << 10
            default: break
            }
        }
    }
}

extension ProcessMemory {
    /// Bytes of a process's memory that can be both written and run: code that QEMU's emulator has translated.
    static func translatedCode(pid: Int32) -> UInt64 {
        translatedCode(inMappings: KernelFile.text("/proc/\(pid)/smaps", limit: 4 << 20) ?? "")
    }

    static func translatedCode(inMappings text: String) -> UInt64 {
        var (isCode, bytes) = (false, UInt64(0))
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count >= 2 else { continue }
            // "7f1b39000000-7f1b3bfff000 rwxp 00000000 00:00 0", and lines such as "Pss:  49148 kB" of it.
            if !fields[0].hasSuffix(":") {
                isCode = fields[1].hasPrefix("rwx")
            } else if isCode, fields[0] == "Pss:", let kibibytes = UInt64(fields[1]) {
                bytes += kibibytes << 10
            }
        }
        return bytes
    }
}

/// Which of a runtime's processes are its daemon; all others are there for pods.
struct ProcessRoles: Sendable {
    var daemon: String
    /// Programs among the pods' processes whose resident size counts as the runtime's own; nil where there are none.
    var helper: String?
    /// The program that carries sessions and logs for all pods, where it is not the daemon.
    var streams: String?
}

extension MemoryFigures {
    /// Resident bytes of the daemon.
    static func daemon(_ roles: ProcessRoles, _ directories: [String]) -> UInt64 {
        largest(memory(of: ProcessTree.now().processes(of: directories)) { $0 == roles.daemon })
    }

    /// Resident and proportional bytes of the program that carries sessions; nil where that is the daemon.
    static func streams(_ roles: ProcessRoles, _ directories: [String]) -> (resident: UInt64, proportional: UInt64)? {
        guard let program = roles.streams else { return nil }
        let found = memory(of: ProcessTree.now().processes(of: directories)) { $0 == program }
        return (largest(found), found.reduce(0) { $0 + $1.proportional })
    }

    /// Looks at everything that runs below the directories while there are `pods` pods.
    mutating func measure(_ roles: ProcessRoles, _ directories: [String], pods: Int) {
        let all = ProcessTree.now().processes(of: directories)
        let daemon = Self.memory(of: all) { $0 == roles.daemon }
        let streams = Self.memory(of: all) { $0 == roles.streams }
        let others = Self.memory(of: all) { $0 != roles.daemon && $0 != roles.streams }
        self.pods = pods
        daemonWithPods = Self.largest(daemon)
        daemonProportional = daemon.reduce(0) { $0 + $1.proportional }
        streamsWithPods = Self.largest(streams)
        helpers = Self.memory(of: all) { $0 == roles.helper }.reduce(0) { $0 + $1.resident }
        perPod = others.reduce(0) { $0 + $1.proportional } / UInt64(max(pods, 1))
        sharedMemoryPerPod = others.reduce(0) { $0 + $1.sharedMemory } / UInt64(max(pods, 1))
    }

    private static func memory(of processes: [ProcessTree.Entry], where isWanted: (String) -> Bool) -> [ProcessMemory] {
        processes.filter { isWanted($0.program) }.compactMap { ProcessMemory(pid: $0.identity.pid) }
    }

    /// swiftletd's reaper is a fork of it that does nothing: its pages are the daemon's.
    private static func largest(_ memory: [ProcessMemory]) -> UInt64 {
        memory.map(\.resident).max() ?? 0
    }
}
