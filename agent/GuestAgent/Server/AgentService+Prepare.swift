import AgentProtocol
import Errors

extension AgentService {
    /// - Throws: `.failedPrecondition` for a guest that is a pod's.
    @Sendable func requireUnused(_ request: AgentPrepareRequest) throws(SwiftletError) {
        let id = sandbox.id
        guard id.isEmpty else { throw SwiftletError(.failedPrecondition, "this guest is sandbox \(id): it cannot be prepared for another") }
    }

    /// Makes the guest ready for a pod that is to come, and leaves nothing of what was made for that but the mounted scratch disk.
    @Sendable func prepare(
        _ request: AgentPrepareRequest, _: Void, _ complete: @escaping Answer<AgentPrepareResponse>
    ) {
        let fail = { @Sendable (error: SwiftletError) in complete(.failure(error.during("preparing the guest"))) }
        do throws(SwiftletError) {
            let environment = try dependencies.prepare(request)
            let container = request.container.root.layers.isEmpty ? nil : try trial(request.container, environment)
            let devices = container == nil ? environment.scratchDevices : try environment.devices(for: request.container)
            environment.devices.wait(for: devices) { [workers] result in
                workers.run {
                    do throws(SwiftletError) {
                        try result.get()
                        try environment.mountScratch()
                        guard let container else { return complete(.success(.init())) }
                        try self.tryOut(container, environment) { result in complete(result.mapError { $0.during("preparing the guest") }) }
                    } catch {
                        fail(error)
                    }
                }
            }
        } catch {
            fail(error)
        }
    }

    private func trial(_ spec: AgentContainerSpec, _ environment: SandboxEnvironment) throws(SwiftletError) -> ContainerRecord {
        var spec = spec
        spec.process = spec.process.withOwnOOMScore
        let id = "trial"
        let container = try dependencies.makeContainer(id, spec, environment)
        return ContainerRecord(
            id: id, process: spec.process, container: container, reaper: reaper, victims: victims, workers: workers, loop: loop)
    }

    /// Makes a container, runs its command and takes it away: what the kernel and the agent do for the first time is done then.
    ///
    /// - Parameter complete: called once the command has ended, unless this throws.
    private func tryOut(
        _ record: ContainerRecord, _ environment: SandboxEnvironment, _ complete: @escaping Answer<AgentPrepareResponse>
    ) throws(SwiftletError) {
        let takeAway = { @Sendable in
            record.first.delete()
            record.container.release()
            environment.shared.release()
        }
        do throws(SwiftletError) {
            _ = try record.prepare()
            _ = try record.start()
        } catch {
            takeAway()
            throw error
        }
        record.first.wait(owner: ObjectIdentifier(record)) { [workers] result in
            workers.run {
                takeAway()
                complete(
                    result.flatMap { exit in
                        guard exit.exitCode == 0 else {
                            return .failure(SwiftletError(.internal, "the trial exited with \(exit.exitCode)"))
                        }
                        return .success(.init())
                    })
            }
        }
    }
}
