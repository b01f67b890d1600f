import AgentClient
import Errors
import Machines
import PodMachine
import Runtime

/// What is done by Swiftlet's agent where the guest runs it, and what without it.
extension VMSandbox {
    /// How long an agent that runs may take to answer.
    private static let patience = Duration.seconds(2)

    /// Begins to look for the agent in the guest of a machine that runs; a machine without a vsock device has none.
    func watchAgent(_ record: VMRecord) {
        let address: VsockAddress
        switch record.machine.vsock {
        case nil: return
        case .vhostUser: address = .unixProxy(path: names(record.container).hostSocket)
        case .kernel(let cid): address = .kernel(cid: cid)
        }
        let agent = VMAgent(address: address, mark: context.mark, logger: logger)
        let before = entries.withLock { entries in
            defer { entries[record.container]?.ownAgent = agent }
            return entries[record.container]?.ownAgent
        }
        before?.close()
        agent.start()
    }

    /// Nil where none answers now.
    func answeringAgent(of id: String) async -> (agent: VMAgent, link: AgentLink)? {
        guard let agent = entries.withLock({ $0[id]?.ownAgent }), let link = try? await agent.link(within: Self.patience) else {
            return nil
        }
        return (agent, link)
    }

    /// Nil where none has been found yet: guests without one are not waited for.
    func knownAgent(of id: String) -> AgentLink? { entries.withLock { $0[id]?.ownAgent }?.known }

    /// By the agent, which joins a client with streams and a terminal; else by qemu-guest-agent, which has neither.
    func execEndpoint(of id: String, for streams: SessionStreams) async throws -> ExecEndpoint {
        let own = entries.withLock { $0[id]?.ownAgent }
        if let own, own.known != nil { return Self.endpoint(own) }
        guard !streams.stdin, !streams.terminal else { return try await endpointWithStreams(own, id) }
        do {
            try await agent(of: id).ping(within: Self.agentPatience)
            return .execute
        } catch {
            // It may have begun to answer since it was looked for last.
            if let own, (try? await own.link(within: Self.patience)) != nil { return Self.endpoint(own) }
            throw Self.noAgent(in: id, cause: error)
        }
    }

    private static func endpoint(_ own: VMAgent) -> ExecEndpoint {
        .streams(.agent(own.address, container: AgentClient.guestContainer))
    }

    private func endpointWithStreams(_ own: VMAgent?, _ id: String) async throws -> ExecEndpoint {
        let others =
            "without stdin and terminal (-i, -t) qemu-guest-agent will do; attach reaches its console, and ssh the guest where it runs sshd"
        guard let own else {
            throw SwiftletError(
                .failedPrecondition,
                "exec: sessions with stdin or a terminal in container \(id), a virtual machine, need Swiftlet's agent in the guest, which its "
                    + "pod does without (swiftlet/agent: none); \(others)")
        }
        do {
            _ = try await own.link(within: Self.patience)
        } catch {
            throw SwiftletError(
                .unavailable,
                "exec: Swiftlet's agent does not answer in the guest of container \(id), a virtual machine, which may still be booting; "
                    + "guests with cloud-init and a vsock driver start it; \(others)",
                cause: error)
        }
        return Self.endpoint(own)
    }

    static func noAgent(in id: String, cause: any Error) -> SwiftletError {
        SwiftletError(
            .unavailable,
            "exec: no agent answers in the guest of container \(id), which may still be booting: with cloud-init and a vsock driver a guest "
                + "starts Swiftlet's, unless its pod does without, else it needs qemu-guest-agent; attach reaches its console",
            cause: cause)
    }

    /// By the agent, which reaches what listens on the guest's loopback as well; else by the pod's network.
    var ports: PortEndpoint {
        get async throws {
            let running = entries.withLock { $0.values.first { $0.record.isStarted && $0.record.end == nil }?.record.container }
            if let running, let (agent, _) = await answeringAgent(of: running) { return .agent(agent.address) }
            guard let path = context.network.namespacePath, let address = network.podIPs.first else {
                throw SwiftletError(.failedPrecondition, "the pod has no address")
            }
            return .namespace(path: path, address: address)
        }
    }

    // MARK: Start

    /// Starts at which a machine is given another vsock context id, as long as each is another machine's.
    private static let mostContextIDs = 8

    /// Starts the machine's vsock device and the machine.
    ///
    /// - Returns: QEMU.
    func start(_ record: VMRecord, _ user: MachineUser, _ ledger: Ledger) async throws -> MachineDocument {
        var machine = record.machine
        if machine.vsock != nil { try await handler.configuration.vsock.start(names(record.container).vsock(user), ledger) }
        let (entry, hypervisor) = (machine.id.uuid.uuidString, hypervisor)
        for attempt in 1... {
            do {
                var document = MachineDocument(process: nil, contextID: nil, domain: machine.name)
                let ordered = machine
                document.process = try await ledger.acquire(.machine, entry, document) { try await hypervisor.start(ordered).process }
                return document
            } catch let error as SwiftletError where error.code == .alreadyExists && attempt < Self.mostContextIDs {
                // The ids of the kernel's device are shared by the node; vsockd's are each machine's own.
                guard case .kernel = machine.vsock else { throw error }
                machine.devices = machine.devices.map { if case .vsock = $0 { .vsock(.kernel(cid: .random(in: 3..<1 << 31))) } else { $0 } }
                let changed = machine
                try await change(record.container) { $0.machine = changed }
            }
        }
        throw SwiftletError(.internal, "unreachable")
    }
}
