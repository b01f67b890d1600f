import Concurrency
import Errors
import Linux
import Machines
import PodMachine
import Runtime

/// How a machine ended, as a container's exit says it.
struct VMEnd: Codable, Sendable, Equatable {
    var code: Int32
    /// Empty for an end that the guest wanted.
    var message: String
    var outOfMemory = false
    /// Whether something on the node ended it.
    var isKill: Bool { code == 137 }
    /// Unix time in nanoseconds by the node's clock.
    var at: Int64

    var exit: ProcessExit { ProcessExit(code: code, outOfMemory: outOfMemory, exitedAt: at, message: message) }
}

extension VMEnd {
    /// 128 and the number of the signal that ends a process in the same way: SIGKILL, and SIGABRT for a kernel that gave up.
    init(_ end: MachineEnd) {
        at = WallClock.now()
        switch end {
        case .poweredOff, .reset: (code, message) = (0, "")
        case .panicked: (code, message) = (134, "the guest's kernel panicked")
        case .destroyed: (code, message) = (137, "the machine was killed")
        case .watchdog: (code, message) = (137, "the guest did not feed its watchdog")
        case .saved: (code, message) = (137, "the machine was saved to a file and ended")
        case .failed, .unseen: (code, message) = (137, "the machine ended: \(end)")
        }
    }
}

extension VMSandbox {
    /// Waits for the machine's end, also for one that nobody reports.
    ///
    /// - Parameter process: QEMU, as soon as it is known.
    /// - Returns: nil when the caller is cancelled.
    static func end(
        of machine: MachineSpec, _ machines: MachineResources, process: @escaping @Sendable () -> ProcessIdentity?
    ) async -> VMEnd? {
        let end = await withTaskGroup(of: MachineEnd?.self) { group in
            group.addTask { await machines.ends.end(of: machine.id) }
            group.addTask { await missed(machine, machines, process) }
            defer { group.cancelAll() }
            for await found in group {
                if let found { return MachineEnd?.some(found) }
            }
            return nil
        }
        guard let end else { return nil }
        return VMEnd(await seen(end, of: machine, machines))
    }

    /// What libvirt's log says of an end that nobody saw.
    static func seen(_ end: MachineEnd, of machine: MachineSpec, _ machines: MachineResources) async -> MachineEnd {
        guard end == .unseen else { return end }
        return await machines.hypervisor.lastEnd(ofMachineNamed: machine.name) ?? end
    }

    /// From one look at the machine to the next, for the ends that nobody reports.
    private static let look = Duration.seconds(10)

    /// Answers when the machine is certainly gone without anybody's having said so; nil when cancelled.
    private static func missed(
        _ machine: MachineSpec, _ machines: MachineResources, _ process: @escaping @Sendable () -> ProcessIdentity?
    ) async -> MachineEnd? {
        while !Task.isCancelled {
            do { try await Task.sleep(for: look) } catch { return nil }
            // A machine that is being started is not there yet: QEMU is known when it is.
            guard process() != nil else { continue }
            do {
                if try await machines.hypervisor.machine(machine.id) == nil { return .unseen }
            } catch {
                continue
            }
        }
        return nil
    }
}
