import ArgumentParser

/// What is measured: the two runtimes, and the machine without any runtime.
enum Subject: String, CaseIterable, ExpressibleByArgument {
    case swiftlet
    case containerd
    case qemu
}

/// What is timed.
enum Operation: String, CaseIterable {
    case runPodSandbox = "RunPodSandbox, cold"
    case createContainer = "CreateContainer"
    /// In a pod that has made a container before.
    case createFurther = "CreateContainer, the pod's second"
    case startContainer = "StartContainer"
    case execSync = "ExecSync(true)"
    case listFew = "ListContainers, few"
    case listMany = "ListContainers, many"
    case stopPodSandbox = "StopPodSandbox"
    /// From the call of Exec to the first byte of the process's output at the client.
    case execBySPDY = "exec by SPDY"
    case execByWebSocket = "exec by WebSocket"
    /// From the call of StartContainer, or the start of the QEMU process, to the guest's first byte on its serial console.
    case vmFirstByte = "start to the first serial byte"
    case vmStart = "StartContainer of a machine"
    case vmExec = "ExecSync(true) by qemu-guest-agent"
    case vmExecByAgent = "ExecSync(true) by swiftlet-agent"
    /// From the start of the QEMU process to the agent's first answer.
    case boot = "raw QEMU to the agent's answer"
    /// Of that, from the kernel's start of the agent until it listens, by the guest's clock.
    case listening = "the agent's start to its listening sockets"
}

extension Operation {
    static let calls: [Operation] = [
        .runPodSandbox, .createContainer, .createFurther, .startContainer, .execSync, .listFew, .listMany, .stopPodSandbox,
    ]
    static let sessions: [Operation] = [.execBySPDY, .execByWebSocket]
    static let virtualMachines: [Operation] = [.vmFirstByte, .vmStart, .vmExec, .vmExecByAgent]
}

/// Memory of a runtime with and without pods, in bytes.
struct MemoryFigures {
    /// Resident size of the daemon.
    var daemonIdle: UInt64 = 0
    var daemonWithPods: UInt64 = 0
    /// Proportional set sizes of the daemon and of what shares its program (swiftletd's reaper), with pods.
    var daemonProportional: UInt64 = 0
    /// Resident size of the process that carries sessions and logs, with pods.
    var streamsWithPods: UInt64 = 0
    /// Resident sizes of the runtime's helpers (containerd's shims), with pods.
    var helpers: UInt64 = 0
    /// Proportional set sizes of all processes that run for pods, divided by the number of pods.
    var perPod: UInt64 = 0
    /// Of that, shared memory: the RAM that guests have touched.
    var sharedMemoryPerPod: UInt64 = 0
    var pods = 0
}

/// Everything one run of the benchmark found out.
struct Measurements {
    private struct Key: Hashable {
        var subject: Subject
        var operation: Operation
    }

    private var samples: [Key: Samples] = [:]
    var memory: [Subject: MemoryFigures] = [:]
    var density = DensityFigures()
    var transfers: [Subject: [Transfer: Throughputs]] = [:]
    /// Bytes of transfers that did not come.
    var lost: [Subject: Int] = [:]
    var logs: [Subject: LogFigures] = [:]
    /// Of the process that carries sessions, while there are many.
    var sessionMemory: SessionMemory?
    var connections: [Subject: Connections] = [:]
    var vm = VMFigures()
    var starts = StartFigures()
    var host = HostFigures()
    /// Name and version as each runtime answers Version.
    var versions: [Subject: String] = [:]
    /// How many containers there were when lists were timed.
    var fewContainers = 0
    var manyContainers = 0

    subscript(_ subject: Subject, _ operation: Operation) -> Samples? {
        samples[Key(subject: subject, operation: operation)]
    }

    mutating func add(_ subject: Subject, _ operation: Operation, _ value: Duration) {
        samples[Key(subject: subject, operation: operation), default: Samples()].add(value)
    }

    mutating func add(_ subject: Subject, _ times: [(Operation, Duration)]) {
        for (operation, value) in times { add(subject, operation, value) }
    }

    mutating func add(_ subject: Subject, _ transfer: Transfer, _ one: Throughput) {
        transfers[subject, default: [:]][transfer, default: Throughputs()].add(one)
    }

    /// 10^6 bytes a second at the median; nil when it was not measured.
    func rate(_ subject: Subject, _ transfer: Transfer) -> Double? { transfers[subject]?[transfer]?.median }

    /// How many times longer the first takes than the second at the median; nil when one was not measured.
    func ratio(_ subject: Subject, _ operation: Operation, to other: Subject, _ otherOperation: Operation? = nil) -> Double? {
        guard let first = self[subject, operation], let second = self[other, otherOperation ?? operation] else { return nil }
        return first.p50.milliseconds / second.p50.milliseconds
    }
}
