import AgentProtocol
import CLinux
import Errors
import Glibc
import Linux

/// Takes plugged CPUs and memory into use.
enum GuestGrowth {
    private static let cpus = "/sys/devices/system/cpu"

    /// From now on memory is used as soon as it is plugged in (the kernel's memory-hotplug documentation).
    static func useMemoryAtOnce() throws(SwiftletError) {
        let path = "/sys/devices/system/memory/auto_online_blocks"
        guard access(path, W_OK) == 0 else { return }
        try Files.write("online", to: path)
    }

    /// - Parameter containers: the containers' common cgroup, whose part grows with the guest.
    static func grow(_ request: AgentGrowRequest, containers: String) -> AgentGrowResponse {
        // The firmware adds CPUs after QEMU has said so. Counted rounds instead of a deadline: the guest's clock jumps.
        for round in 0..<100 {
            let names = (try? KernelFile.names(in: cpus)) ?? []
            let offline = names.filter { $0.hasPrefix("cpu") && Files.text("\(cpus)/\($0)/online") == "0" }
            for name in offline { try? Files.write("1", to: "\(cpus)/\(name)/online") }
            if online >= request.cpus || round == 99 { break }
            Pause.milliseconds(50)
        }
        let reserve = AgentReserve.current()
        if access(containers, F_OK) == 0 { reserve.apply(to: containers) }
        return .with {
            $0.cpus = online
            $0.memoryBytes = reserve.memory
        }
    }

    private static var online: UInt32 { UInt32(max(0, sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }
}
