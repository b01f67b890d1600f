import CLinux
import Errors
import Glibc
import Linux

/// How the guest is divided between its containers together and the agent, which lives outside their cgroup: whatever the
/// containers do, memory and process numbers are left for the agent to answer with.
struct AgentReserve: Equatable {
    /// Bytes and processes of the whole guest.
    var memory: UInt64
    var processes: UInt64

    /// What the agent, its buffers and the kernel's own structures need at least. The agent itself measures 16 MiB.
    private static let leastMemory: UInt64 = 24 << 20
    private static let agentProcesses: UInt64 = 128

    /// The limits of the containers' common cgroup.
    var files: [String: String] {
        // The kernel's structures grow with the memory they describe.
        let kept = max(Self.leastMemory, memory / 32)
        return [
            "memory.max": memory > 2 * kept ? "\(memory - kept)" : "\(memory / 2)",
            "pids.max": processes > 2 * Self.agentProcesses ? "\(processes - Self.agentProcesses)" : "\(processes / 2)",
        ]
    }

    /// The guest as it is now.
    static func current() -> AgentReserve {
        let pages = UInt64(max(0, sysconf(Int32(_SC_PHYS_PAGES)))) * UInt64(max(0, sysconf(Int32(_SC_PAGESIZE))))
        // The lower of what the kernel's memory and its numbers allow (proc(5)).
        let limits = ["threads-max", "pid_max"].compactMap { name in
            KernelFile.text("/proc/sys/kernel/\(name)").flatMap { UInt64($0.prefix { $0 != "\n" }) }
        }
        return AgentReserve(memory: pages, processes: limits.min() ?? 4096)
    }

    /// Sets the limits on the containers' cgroup. A controller that is missing limits nothing.
    func apply(to path: String) {
        for (name, value) in files { try? KernelFile.write(value, to: "\(path)/\(name)") }
    }
}
