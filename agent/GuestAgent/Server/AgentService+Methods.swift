import AgentProtocol
import Errors
import Glibc
import Linux

extension AgentService {
    func info() -> AgentGetInfoResponse {
        var info = dependencies.info()
        let common = [AgentFeature.resumableOutput, AgentFeature.terminal, AgentFeature.ports]
        info.features = common + (dependencies.guest == nil ? [AgentFeature.containers, AgentFeature.userNames] : [AgentFeature.guest])
        info.sandboxID = sandbox.id
        return info
    }

    @Sendable func startSandbox(_ request: AgentStartSandboxRequest) throws(SwiftletError) -> AgentStartSandboxResponse {
        try sandbox.start(request)
        let environment = try sandbox.environment()
        // Ahead of the first container, whose call throws what fails here.
        environment.devices.wait(for: environment.scratchDevices) { [workers] result in
            if case .success = result { workers.run { try? environment.mountScratch() } }
        }
        return .init()
    }

    @Sendable func setTime(_ request: AgentSetTimeRequest) throws(SwiftletError) -> AgentSetTimeResponse {
        try dependencies.setTime(request.timeNs)
        return .init()
    }

    @Sendable func reserveContainer(_ request: AgentCreateContainerRequest) throws(SwiftletError) -> SandboxEnvironment {
        let environment = try sandbox.environment()
        try containers.reserve(request.containerID)
        return environment
    }

    /// Checks the spec, waits for its devices, on no thread of the pool, and makes the container.
    @Sendable func createContainer(
        _ request: AgentCreateContainerRequest, _ environment: SandboxEnvironment,
        _ complete: @escaping Answer<AgentCreateContainerResponse>
    ) {
        let id = request.containerID
        let fail = { @Sendable [containers] (error: SwiftletError) in
            containers.cancel(id)
            complete(.failure(error.during("creating container \(printable(id))")))
        }
        do throws(SwiftletError) {
            var spec = request.spec
            spec.process = spec.process.withOwnOOMScore
            let container = try dependencies.makeContainer(id, spec, environment)
            let record = ContainerRecord(
                id: id, process: spec.process, container: container, reaper: reaper, victims: victims, workers: workers, loop: loop)
            let devices = try environment.devices(for: spec)
            workers.run { container.prepareEarly() }
            environment.devices.wait(for: devices) { [self] result in
                workers.run {
                    do throws(SwiftletError) {
                        do throws(SwiftletError) {
                            try result.get()
                            try environment.mountScratch()
                        } catch {
                            container.release()
                            throw error
                        }
                        complete(.success(try self.prepare(record, request, environment)))
                    } catch {
                        fail(error)
                    }
                }
            }
        } catch {
            fail(error)
        }
    }

    private func prepare(
        _ record: ContainerRecord, _ request: AgentCreateContainerRequest, _ environment: SandboxEnvironment
    ) throws(SwiftletError) -> AgentCreateContainerResponse {
        do throws(SwiftletError) {
            try environment.allowModules(request.spec.modulesSerial, for: record.id)
            let user = try record.prepare()
            try grantStreams(record.first, output: Array(request.outputToken), stdin: Array(request.stdinToken))
            try containers.enter(record)
            return .with {
                $0.uid = user.uid
                $0.gid = user.gid
                $0.additionalGids = user.additionalGIDs
            }
        } catch {
            release(record)
            throw error
        }
    }

    @Sendable func startContainer(_ request: AgentStartContainerRequest) throws(SwiftletError) -> AgentStartContainerResponse {
        let record = try containers.find(request.containerID)
        let pid = try record.start()
        return .with { $0.pid = UInt32(pid) }
    }

    /// Idempotent.
    @Sendable func deleteContainer(_ request: AgentDeleteContainerRequest) throws(SwiftletError) -> AgentDeleteContainerResponse {
        guard let record = try containers.beginDelete(request.containerID) else { return .init() }
        release(record)
        containers.cancel(record.id)
        return .init()
    }

    private func release(_ record: ContainerRecord) {
        for process in record.processes {
            streams.revoke(process)
            process.delete()
        }
        record.container.release()
        (try? sandbox.environment())?.demandedModules?.release(record.id)
    }

    @Sendable func enterProcess(_ request: AgentExecRequest) throws(SwiftletError) -> (record: ContainerRecord, process: GuestProcess) {
        let record = try containers.find(request.containerID)
        return (record, try record.enter(request.processID, request.process))
    }

    @Sendable func exec(
        _ request: AgentExecRequest, _ entered: (record: ContainerRecord, process: GuestProcess)
    ) throws(SwiftletError) -> AgentExecResponse {
        let (record, process) = entered
        do {
            try grantStreams(process, output: Array(request.outputToken), stdin: Array(request.stdinToken))
            let pid = try record.run(process, request.process.withOwnOOMScore, inherit: request.inherit)
            process.output.watchAbandonment(after: dependencies.execPatience) { [weak self, weak record, weak process] in
                guard let self, let record, let process else { return }
                workers.run {
                    record.remove(process)
                    self.forget(process)
                }
            }
            return .with { $0.pid = UInt32(pid) }
        } catch {
            record.remove(process)
            forget(process)
            // The host says of which container.
            throw error
        }
    }

    @Sendable func signal(_ request: AgentSignalRequest) throws(SwiftletError) -> AgentSignalResponse {
        // Linux has 64 signals on every architecture we run on (signal(7)).
        guard (1...64).contains(request.signal) else {
            throw SwiftletError(.invalidArgument, "\(request.signal) is no signal")
        }
        let record = try containers.find(request.containerID)
        let process = try record.process(request.processID)
        if request.all {
            try record.container.signalAll(Int32(request.signal))
        } else {
            try process.signal(Int32(request.signal))
        }
        return .init()
    }

    @Sendable func deleteProcess(_ request: AgentDeleteProcessRequest) throws(SwiftletError) -> AgentDeleteProcessResponse {
        guard !request.processID.isEmpty else {
            throw SwiftletError(.invalidArgument, "the first process is deleted with its container")
        }
        guard let record = containers.lookup(request.containerID) else { return .init() }
        forget(record.remove(request.processID))
        return .init()
    }

    private func forget(_ process: GuestProcess?) {
        guard let process else { return }
        process.kill()
        streams.revoke(process)
        process.delete()
    }

    /// Answers when the process has exited.
    @Sendable func wait(
        _ request: AgentWaitRequest, _ caller: ObjectIdentifier, _ complete: @escaping Answer<AgentWaitResponse>
    ) throws(SwiftletError) {
        try containers.find(request.containerID).process(request.processID).wait(owner: caller, complete)
    }

    func list() -> AgentListResponse {
        .with { $0.containers = containers.all.map(\.summary) }
    }

    @Sendable func openStream(_ request: AgentOpenStreamRequest) throws(SwiftletError) -> AgentOpenStreamResponse {
        let process = try containers.find(request.containerID).process(request.processID)
        switch request.kind {
        case .stdin:
            try process.checkInput()
            try streams.grant(Array(request.token), .input(process))
        case .output:
            try process.output.check(stdout: request.stdoutOffset, stderr: request.stderrOffset)
            try streams.grant(Array(request.token), .output(process, stdout: request.stdoutOffset, stderr: request.stderrOffset))
        case .UNRECOGNIZED(let kind):
            throw SwiftletError(.invalidArgument, "no stream kind \(kind)")
        }
        return .init()
    }

    private func grantStreams(_ process: GuestProcess, output: [UInt8], stdin: [UInt8]) throws(SwiftletError) {
        if !output.isEmpty { try streams.grant(output, .output(process, stdout: 0, stderr: 0)) }
        guard !stdin.isEmpty else { return }
        try process.checkInput()
        try streams.grant(stdin, .input(process))
    }

    @Sendable func openPort(_ request: AgentOpenPortRequest) throws(SwiftletError) -> AgentOpenPortResponse {
        guard let port = UInt16(exactly: request.port), port > 0 else {
            throw SwiftletError(.invalidArgument, "port \(request.port) is not from 1 to 65535")
        }
        try streams.grant(Array(request.token), .port(try ports.connect(port)), for: Self.portPatience)
        return .init()
    }

    /// How long a connection to a port waits for the host to take it.
    private static let portPatience = Duration.seconds(10)

    @Sendable func resizeTerminal(_ request: AgentResizeTerminalRequest) throws(SwiftletError) -> AgentResizeTerminalResponse {
        let process = try containers.find(request.containerID).process(request.processID)
        try process.resize(TerminalSize(width: request.width, height: request.height))
        return .init()
    }

    @Sendable func shutdown(_ request: AgentShutdownRequest) throws(SwiftletError) -> AgentShutdownResponse {
        for record in containers.all { try? record.container.signalAll(SIGKILL) }
        // Not the scratch disk: it outlives nothing.
        (try? sandbox.environment())?.volumes.flush()
        // Lets the answer leave the guest first.
        let powerOff = dependencies.powerOff
        workers.run {
            Pause.milliseconds(20)
            powerOff()
        }
        return .init()
    }
}

extension AgentProcessSpec {
    /// Without a score of its own a process would inherit the agent's, which the kernel never kills.
    var withOwnOOMScore: AgentProcessSpec {
        guard !hasOomScoreAdj else { return self }
        var spec = self
        spec.oomScoreAdj = 0
        return spec
    }
}
