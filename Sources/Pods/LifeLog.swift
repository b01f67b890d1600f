import Logging
import Runtime

/// The log's lines about each step of a pod's and a container's life. What an earlier daemon had brought about is none.
struct LifeLog: Sendable {
    let logger: Logger

    func changed(_ sandbox: SandboxSnapshot, from last: SandboxSnapshot?) {
        guard last?.state.name != sandbox.state.name, last != nil || sandbox.state == .reserved else { return }
        var metadata = metadata(sandbox)
        switch sandbox.state {
        // A failure has a line of its own, where it happens.
        case .reserved, .failed: return
        case .ready: metadata["addresses"] = "\(sandbox.addresses.joined(separator: ","))"
        case .starting, .paused, .stopping, .stopped, .removed: break
        }
        logger.info("pod sandbox \(sandbox.state.name)", metadata: metadata)
    }

    func removed(_ sandbox: SandboxSnapshot) {
        logger.info("pod sandbox removed", metadata: metadata(sandbox))
    }

    func changed(_ container: ContainerSnapshot, from last: ContainerSnapshot?) {
        guard last?.state.name != container.state.name, last != nil || container.state == .created else { return }
        var metadata = metadata(container)
        if last == nil { metadata["image"] = "\(container.spec.imageTag)" }
        if let exit = container.state.exit {
            metadata["code"] = "\(exit.code)"
            metadata["reason"] = "\(exit.message.isEmpty ? exit.reason : "\(exit.reason): \(exit.message)")"
        }
        logger.info("container \(container.state.name)", metadata: metadata)
    }

    func removed(_ container: ContainerSnapshot) {
        logger.info("container removed", metadata: metadata(container))
    }

    private func metadata(_ sandbox: SandboxSnapshot) -> Logger.Metadata {
        let metadata = sandbox.spec.metadata
        return ["pod": "\(sandbox.id)", "namespace": "\(metadata.namespace)", "name": "\(metadata.name)", "attempt": "\(metadata.attempt)"]
    }

    private func metadata(_ container: ContainerSnapshot) -> Logger.Metadata {
        let metadata = container.spec.metadata
        return [
            "container": "\(container.id)", "pod": "\(container.sandboxID)", "name": "\(metadata.name)", "attempt": "\(metadata.attempt)",
        ]
    }
}
