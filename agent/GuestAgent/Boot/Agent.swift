import AgentProtocol
import CLinux
import Errors
import Glibc
import Linux
import SwiftletVersion
import Synchronization
import TTRPC

/// The agent's servers, with what they need of the machine.
final class Agent: Sendable {
    /// Calls that may block at the same time.
    private static let workerLimit = 16
    /// As much as a vsock connection takes at once: each turn between the agent and a container's process costs as much as copying many
    /// bytes, above all for an emulated guest.
    private static let readSize = 256 << 10
    /// A host holds one connection, a restarting one a second; more are old ones that nobody closed.
    private static let connectionLimit = 32

    let control: TTRPCServer
    let streams: StreamServer
    private let loop: EventLoop

    init(scope: Reaper.Scope, dependencies: AgentService.Dependencies) throws(SwiftletError) {
        loop = try EventLoop(name: "agent", readSize: Self.readSize)
        streams = StreamServer(loop: loop)
        let service = AgentService(
            dependencies: dependencies, reaper: try Reaper(scope: scope, loop: loop), streams: streams,
            workers: WorkerPool(limit: Self.workerLimit), loop: loop)
        control = TTRPCServer(service: service, loop: loop, limits: TTRPCServer.Limits(connections: Self.connectionLimit))
    }

    /// Serves the host on the contract's vsock ports.
    func listen() throws(SwiftletError) {
        try Listener.vsock(port: AgentContract.streamPort, loop: loop) { [streams] in streams.accept($0) }
        try Listener.vsock(port: AgentContract.controlPort, loop: loop) { [control] in control.accept($0) }
    }
}

/// The guest that an agent is PID 1 of.
final class Guest: Sendable {
    /// Nanoseconds of CLOCK_BOOTTIME at the kernel's hand-over.
    private let started: UInt64
    private let listening = Atomic<UInt64>(0)
    /// Opened when the modules and mounts are there that sandboxes need.
    private let booted: Latch
    /// Opened when the modules are there that every container needs.
    private let storage: Latch
    /// What only containers with volumes or devices need.
    private let volumes: ModulesOnDemand
    /// What nobody asks for but a host that has the guest wait for its pod.
    private let rest: ModulesOnDemand
    /// What the kernel asks for on behalf of containers.
    private let demanded: DemandedModules

    init(started: UInt64, booted: Latch, storage: Latch, volumes: ModulesOnDemand, rest: ModulesOnDemand, demanded: DemandedModules) {
        self.started = started
        self.booted = booted
        self.storage = storage
        self.volumes = volumes
        self.rest = rest
        self.demanded = demanded
    }

    /// Called when the host can connect.
    func isListening() { listening.store(WallClock.sinceBoot(), ordering: .relaxed) }

    private var setup: SandboxSetup { SandboxSetup(storage: storage, volumes: volumes, demanded: demanded) }

    var dependencies: AgentService.Dependencies {
        let setup = setup
        return AgentService.Dependencies(
            makeContainer: { id, spec, environment throws(SwiftletError) in
                try GuestContainer(id: id, spec: spec, environment: environment)
            },
            startSandbox: { [booted, setup] request throws(SwiftletError) in
                // Before the rest of the boot, so that the clock is not behind by what is still to come.
                if request.timeNs != 0 { try GuestClock.set(request.timeNs) }
                booted.wait()
                return try setup.start(request)
            },
            prepare: { [volumes, rest, setup] request throws(SwiftletError) in
                _ = (volumes.demand(), rest.demand())
                rest.wait()
                return try setup.start(AgentStartSandboxRequest.with { $0.scratchSerial = request.scratchSerial })
            }, setTime: { time throws(SwiftletError) in try GuestClock.correct(to: time) },
            powerOff: { _ = clinux_power_off() },
            info: { Self.info(started: self.started, listening: self.listening.load(ordering: .relaxed)) },
            grow: { request in GuestGrowth.grow(request, containers: "/sys/fs/cgroup/\(ContainerCgroup.parentName)") })
    }

    /// - Parameters: nanoseconds of CLOCK_BOOTTIME.
    static func info(started: UInt64, listening: UInt64) -> AgentGetInfoResponse {
        var system = utsname()
        uname(&system)
        return .with {
            $0.version = swiftletVersion
            $0.kernelRelease = withUnsafeBytes(of: system.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            $0.startedSinceBootNs = started
            $0.listeningSinceBootNs = listening
            $0.memoryBytes = UInt64(max(0, sysconf(Int32(_SC_PHYS_PAGES)))) * UInt64(max(0, sysconf(Int32(_SC_PAGESIZE))))
            $0.cpus = UInt32(max(0, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
        }
    }
}
