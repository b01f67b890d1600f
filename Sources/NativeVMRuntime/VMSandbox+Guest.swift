import Concurrency
import Errors
import Linux
import Machines
import PodMachine
import Runtime

extension VMSandbox {
    func output(of id: String) -> OutputEndpoint {
        let names = names(id)
        return .console(log: names.console, socket: names.consoleSocket)
    }

    var ports: PortEndpoint {
        get throws {
            guard let path = context.network.namespacePath, let address = network.podIPs.first else {
                throw SwiftletError(.failedPrecondition, "the pod has no address")
            }
            return .namespace(path: path, address: address)
        }
    }

    func execute(_ id: String, _ command: [String], timeout: Duration?, output: OutputAllowance) async throws -> ExecResult {
        throw SwiftletError(
            .unimplemented, "exec: container \(id) is a virtual machine, and no agent in it answers; use attach for its console")
    }

    func statistics(openFiles: Bool, containers: Int) async throws -> SandboxFigures {
        guard let record = entries.withLock({ $0.values.first { $0.record.isStarted && $0.record.end == nil }?.record }) else {
            return SandboxFigures()
        }
        let machine = try await hypervisor.statistics(record.machine.id)
        let cgroup = CgroupUsage(machine, of: record.machine)
        return SandboxFigures.with { figures in
            figures.pod = cgroup
            figures.containers = [
                ContainerFigures.with {
                    $0.containerID = record.container
                    $0.cgroup = cgroup
                    $0.writableLayer = LayerUsage.with { $0.usedBytes = machine.disks["root"]?.allocated ?? 0 }
                }
            ]
            if let memory = machine.guestMemory {
                figures.memoryTotalBytes = memory.total
                figures.memoryAvailableBytes = memory.available ?? memory.unused
            }
        }
    }

    func updateContainer(_ id: String, from old: LinuxResources, to new: LinuxResources) async throws {}
}

extension CgroupUsage {
    /// The machine's use as a container's: QEMU's processor time, and the guest's memory by its balloon driver, or what QEMU holds of it.
    fileprivate init(_ statistics: MachineStatistics, of machine: MachineSpec) {
        self.init()
        cpu.usageUs = statistics.cpuNanoseconds / 1000
        let ram = machine.shape.memoryBytes
        memory.limitBytes = ram
        if let guest = statistics.guestMemory {
            memory.usageBytes = guest.total - min(guest.unused, guest.total)
            memory.inactiveFileBytes = min(
                (guest.available ?? guest.unused) - min(guest.unused, guest.available ?? guest.unused), memory.usageBytes)
        } else {
            memory.usageBytes = min(statistics.residentBytes, ram)
        }
        io = statistics.disks.sorted { $0.key < $1.key }.map { serial, disk in
            BlockIOUsage.with {
                $0.name = serial
                $0.readBytes = disk.readBytes
                $0.writeBytes = disk.writtenBytes
                $0.reads = disk.readRequests
                $0.writes = disk.writeRequests
            }
        }
    }
}
