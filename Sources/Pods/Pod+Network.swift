import Errors
import Runtime

extension Pod {
    /// The handler's start, with the network attached beside it. Nothing of either goes on when this returns.
    func startWithNetwork() async throws -> any Sandbox {
        let attachment = attachment { try await self.attachNetwork() }
        do {
            let context = SandboxContext(id: id, spec: spec, ledger: ledger, network: attachment, mark: mark) {
                try await self.enter(.phase($0))
            }
            let machine = try await handler.start(context)
            do {
                _ = try await attachment.attached()
            } catch {
                machine.close()
                throw error
            }
            return machine
        } catch {
            await attachment.end()
            throw error
        }
    }

    /// What a handler needs to find a sandbox of an earlier daemon again.
    func context(of network: SandboxNetwork) -> SandboxContext {
        let attachment = attachment { network }
        return SandboxContext(id: id, spec: spec, ledger: ledger, network: attachment, mark: mark)
    }

    /// Asks the network's plug-ins whether what they gave the pod is still there, and warns when it is not: the pod may work all the
    /// same, and what made the plug-ins' work undone (a firewall's reload, another program) is for the administrator to find.
    func checkNetwork() async {
        guard state.isUp, let entry = ledger.entry(.networkAttachment) else { return }
        do {
            try await context.network.check(entry.decoded(PodNetworkRequest.self))
        } catch {
            logger.warning(
                "network of a pod is not as the plug-ins made it; if it does not work, delete the pod",
                metadata: ["pod": "\(id)", "error": "\(error)"])
        }
    }

    private func attachment(_ attach: @escaping @Sendable () async throws -> SandboxNetwork) -> AttachmentInFlight {
        AttachmentInFlight(namespacePath: namespacePath, network: context.network, annotations: spec.annotations, attach)
    }

    private nonisolated var namespacePath: String? {
        spec.networkMode == .node ? nil : context.network.namespacePath(of: id)
    }

    private func attachNetwork() async throws -> SandboxNetwork {
        let network: SandboxNetwork
        if let namespacePath {
            do {
                network = .attached(try await attach(namespacePath))
            } catch {
                throw SwiftletError.wrap(error, "attach the network")
            }
        } else {
            network = .node
        }
        try await enter(.attached(network))
        return network
    }

    private func attach(_ namespacePath: String) async throws -> AttachedNetwork {
        let network = context.network
        try await ledger.acquire(.networkNamespace, namespacePath) { try await network.createNamespace(path: namespacePath) }
        let request = PodNetworkRequest(
            podID: id, podName: spec.metadata.name, podNamespace: spec.metadata.namespace, podUID: spec.metadata.uid,
            namespacePath: namespacePath, portMappings: spec.portMappings)
        return try await ledger.acquire(.networkAttachment, id, request) { try await network.attach(request) }
    }
}
