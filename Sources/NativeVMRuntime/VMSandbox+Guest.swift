import AgentClient
import Concurrency
import DHCP
import Errors
import Linux
import Machines
import PodMachine
import QemuGuestAgent
import Runtime

extension VMSandbox {
    func output(of id: String) -> OutputEndpoint {
        let names = names(id)
        return .console(log: names.console, socket: names.consoleSocket)
    }

    /// How long an agent may take to say that it is there; it takes some milliseconds.
    static let agentPatience = Duration.seconds(3)
    /// An exec without a time limit has this one.
    private static let longestExec = Duration.seconds(24 * 3600)

    /// By Swiftlet's agent where the guest runs it, else by qemu-guest-agent.
    func execute(_ id: String, _ command: [String], timeout: Duration?, output: OutputAllowance) async throws -> ExecResult {
        let limit = timeout.flatMap { $0 > .zero ? min($0, Self.longestExec) : nil } ?? Self.longestExec
        let deadline = ContinuousClock.now + limit
        if let link = knownAgent(of: id) { return try await execute(command, timeout, output, over: link) }
        let agent = try agent(of: id)
        do {
            try await agent.ping(within: min(Self.agentPatience, limit))
        } catch {
            // It may have begun to answer since it was looked for last.
            if let (_, link) = await answeringAgent(of: id) { return try await execute(command, timeout, output, over: link) }
            throw Self.noAgent(in: id, cause: error)
        }
        let outcome = try await agent.run(command, within: deadline - .now)
        let stdout = outcome.output.prefix(try output.take(outcome.output.count))
        let stderr = outcome.errorOutput.prefix(try output.take(outcome.errorOutput.count))
        let isWhole = stdout.count == outcome.output.count && stderr.count == outcome.errorOutput.count
        return ExecResult(
            stdout: Array(stdout), stderr: Array(stderr), exitCode: outcome.exitCode, isCut: outcome.isCut || !isWhole)
    }

    private func execute(
        _ command: [String], _ timeout: Duration?, _ output: OutputAllowance, over link: AgentLink
    ) async throws -> ExecResult {
        try await link.execute(command, in: AgentClient.guestContainer, timeout: timeout, output: output, logger: logger)
    }

    func agent(of id: String) throws -> QemuAgent {
        let (socket, pool) = (names(id).guestAgentSocket, handler.agents)
        return try entries.withLock { entries in
            guard let entry = entries[id] else { throw SwiftletError(.notFound, "container \(id)") }
            if let agent = entry.agent { return agent }
            let agent = QemuAgent(socket: socket, peer: entry.record.machine.user?.uid, pool: pool, replies: handler.largeReplies)
            entries[id]?.agent = agent
            return agent
        }
    }

    /// Answers the guest's DHCP clients and advertises its router from now on: an image without cloud-init asks for its addresses.
    func answerAddresses(_ record: VMRecord) async {
        guard let namespace = context.network.namespacePath else { return }
        let asked = context.spec.dns
        let dns = asked.map { NetworkDNS(nameservers: $0.servers, domain: nil, search: $0.searches, options: $0.options) } ?? network.dns
        var responders: [AddressResponder] = []
        for (device, interface) in zip(record.machine.interfaces, record.interfaces) {
            let offer = AddressOffer(interface, of: network, dns: dns, hostname: context.spec.effectiveHostname)
            let ipv6 = IPv6Offer(interface, of: network, dns: dns)
            guard offer != nil || ipv6 != nil else { continue }
            do {
                responders.append(try await handler.responders.start(offer, ipv6, tap: device.tap, in: namespace))
            } catch {
                logger.warning("DHCP is not answered", metadata: ["container": "\(record.container)", "error": "\(error)"])
            }
        }
        let started = responders
        entries.withLock { $0[record.container]?.responders = started }
    }

    /// How long the guest's own figures are waited for; without them there are the machine's.
    private static let figuresPatience = Duration.seconds(1)

    func statistics(openFiles: Bool, containers: Int) async throws -> SandboxFigures {
        guard let record = entries.withLock({ $0.values.first { $0.record.isStarted && $0.record.end == nil }?.record }) else {
            return SandboxFigures()
        }
        let guest = try? await knownAgent(of: record.container)?.figures(containers: 1, within: Self.figuresPatience)
        let machine = try await hypervisor.statistics(record.machine.id)
        let cgroup = CgroupUsage(machine, memory: record.extent.memoryBytes)
        let ephemeral = record.ephemeralDisks(in: names(record.container).stateDirectory)
        let written = ephemeral.reduce(0) { $0 &+ (machine.disks[$1]?.allocated ?? 0) }
        return SandboxFigures.with { figures in
            figures.pod = cgroup
            figures.containers = [
                ContainerFigures.with {
                    $0.containerID = record.container
                    $0.cgroup = cgroup
                    $0.writableLayer = LayerUsage.with { $0.usedBytes = written }
                }
            ]
            if let memory = machine.guestMemory {
                figures.memoryTotalBytes = memory.total
                figures.memoryAvailableBytes = memory.available ?? memory.unused
            } else if let guest {
                figures.memoryTotalBytes = guest.memoryTotalBytes
                figures.memoryAvailableBytes = guest.memoryAvailableBytes
            }
            figures.interfaces = guest?.interfaces ?? []
        }
    }
}

extension VMRecord {
    /// Serials of the disks whose files go with the container. A volume's is a volume's, whose claim says how large it may become, also where
    /// it is lent to a place in the container's directory.
    ///
    /// - Parameter directory: the container's.
    func ephemeralDisks(in directory: String) -> [String] {
        machine.disks.filter { disk in
            !disk.readOnly && disk.medium == .file && disk.path.hasPrefix(directory + "/") && !(disk.serial == "root" && root != nil)
                && !(lentFiles ?? []).contains { $0.place == disk.path }
        }.map(\.serial)
    }
}

extension CgroupUsage {
    /// The machine's use as a container's: QEMU's processor time, and the guest's memory by its balloon driver, or what QEMU holds of it.
    fileprivate init(_ statistics: MachineStatistics, memory ram: UInt64) {
        self.init()
        cpu.usageUs = statistics.cpuNanoseconds / 1000
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
