import Errors
import Runtime

/// What an operator asks of the machines of pods. An id is that of a container or of a sandbox, or a unique beginning of one.
extension PodRegistry {
    public func describeMachine(of id: String, withXML: Bool) async throws -> MachineDescription {
        let (pod, container) = try podOfEither(id)
        return try await pod.describeMachine(of: container, withXML: withXML)
    }

    /// - Throws: as ``MachineControl``; `.invalidArgument` for a container that is no machine.
    public func resetMachine(of id: String) async throws { try await control(id, "reset") { try await $0.reset() } }

    public func rebootMachine(of id: String, within limit: Duration) async throws {
        try await control(id, "reboot") { try await $0.reboot(within: limit) }
    }

    public func pauseMachine(of id: String) async throws { try await control(id, "pause") { try await $0.pause() } }

    public func resumeMachine(of id: String) async throws { try await control(id, "resume") { try await $0.resume() } }

    public func screenshot(of id: String) async throws -> [UInt8] {
        try await control(id, "a screenshot") { try await $0.screenshot() }
    }

    public func addAuthorizedKeys(_ keys: [String], of user: String, in id: String) async throws {
        try await control(id, "a change of keys") { try await $0.addAuthorizedKeys(keys, of: user) }
    }

    /// - Returns: also whether a machine has the disks in use.
    public func checkDisks(of id: String) async throws -> (disks: [CheckedDisk], isRunning: Bool) {
        let (pod, container) = try podOfEither(id)
        return try await pod.checkDisks(of: container)
    }

    private func control<Value: Sendable>(
        _ id: String, _ act: String, _ body: @Sendable (any MachineControl) async throws -> Value
    ) async throws -> Value {
        let (pod, container) = try podOfEither(id)
        return try await body(try await pod.machineControl(for: act, of: container))
    }

    /// - Returns: also the container, when it is one's id.
    private func podOfEither(_ id: String) throws -> (Pod, String?) {
        try Identifier.check(id, of: "container or pod sandbox")
        if let snapshot = try context.snapshots.container(id) {
            let (pod, container) = try podOfContainer(snapshot.id)
            return (pod, container)
        }
        guard let pod = try pod(id) else { throw SwiftletError(.notFound, "no container and no pod sandbox \(id)") }
        return (pod, nil)
    }
}

extension Pod {
    func describeMachine(of container: String?, withXML: Bool) async throws -> MachineDescription {
        try requireRunning(container, for: "a description")
        guard let machine = try await heldMachine() as? any MachineSandbox else { throw noMachine(container) }
        return try await machine.describeMachine(withXML: withXML)
    }

    /// The machine that the pod's container is, whether anything in it runs or not.
    ///
    /// - Parameter container: has to be the one that runs; nil: whichever does.
    func machineControl(for act: String, of container: String?) async throws -> any MachineControl {
        let machine = try await heldMachine()
        guard let control = machine as? any MachineControl else { throw noMachine(container) }
        try requireRunning(container, for: act)
        return control
    }

    func checkDisks(of container: String?) async throws -> (disks: [CheckedDisk], isRunning: Bool) {
        guard let control = try await heldMachine() as? any MachineControl else { throw noMachine(container) }
        let newest = containers.values.sorted { ($0.isRunning ? 1 : 0, $0.createdAt) > ($1.isRunning ? 1 : 0, $1.createdAt) }.first?.id
        guard let id = container ?? newest else {
            throw SwiftletError(.failedPrecondition, "pod sandbox \(self.id) has no container, and with that no disk")
        }
        let disks = try await control.checkDisks(of: id)
        return (disks, try self.container(id).isRunning)
    }

    private func requireRunning(_ container: String?, for act: String) throws {
        if let container { try requireRunning(try self.container(container), for: act) }
    }

    private func noMachine(_ container: String?) -> SwiftletError {
        let name = container.map { "container \($0)" } ?? "pod sandbox \(id)"
        return SwiftletError(
            .invalidArgument,
            "\(name) is no virtual machine of its own: its runtime handler is \(handler.name); pods whose handler is vm are")
    }
}
