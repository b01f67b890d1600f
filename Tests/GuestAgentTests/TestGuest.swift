import AgentClient
import AgentProtocol
import CLinux
import Errors
import Glibc
import Linux
import Runtime
import Synchronization
import Testing

@testable import GuestAgent

/// The agent in this process, reached as the host reaches a guest: through a socket that speaks the vsock proxy's line.
/// Its containers are plain processes.
final class TestGuest: Sendable {
    let directory: String
    let poweredOff: Flag
    let held: HeldLaunch
    private let listener: Int32
    private let agent: Agent
    private let loop: EventLoop

    var address: VsockAddress { .unixProxy(path: directory + "/vsock") }

    /// - Parameters:
    ///   - devices: what containers wait for; by default nothing.
    ///   - execPatience: how long a further process may run with nobody connected to its output.
    ///   - guest: what is the one container of a guest that is not the agent's own; nil: containers are made.
    ///   - setTime: on the agent's event loop; by default nothing happens.
    init(
        devices: DeviceWaits = .none, execPatience: Duration = .seconds(30), guest: (any PodContainer)? = nil,
        setTime: @escaping @Sendable (Int64) throws(SwiftletError) -> Void = { _ throws(SwiftletError) in }
    ) throws {
        signal(SIGPIPE) { _ in }
        var template = Array("/tmp/swiftlet-agent-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SwiftletError.system("mkdtemp") }
        directory = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let directory = directory
        loop = try EventLoop(name: "proxy")
        let powered = Flag()
        let held = try HeldLaunch()
        self.held = held
        let environment = { @Sendable in
            SandboxEnvironment(
                scratchDirectory: directory, devices: devices, diskPath: { serial throws(SwiftletError) in serial },
                hostname: "test", resolvConfPath: "", hostsPath: "", cgroupRoot: "",
                shared: PodSharedState(scratchDirectory: directory, cgroupRoot: ""))
        }
        agent = try Agent(
            scope: .launched,
            dependencies: AgentService.Dependencies(
                makeContainer: { id, spec, _ throws(SwiftletError) in PlainContainer(id, spec, held) },
                startSandbox: { _ throws(SwiftletError) in environment() }, prepare: { _ throws(SwiftletError) in environment() },
                setTime: setTime, powerOff: { powered.raise() },
                info: { AgentGetInfoResponse.with { $0.version = "test" } }, execPatience: execPatience, guest: guest))
        poweredOff = powered

        listener = try TestSocket.listen(directory + "/vsock", nonBlocking: true)
        try Listener.serve(listener, loop: loop) { [agent, loop] in
            _ = Greeting($0, loop: loop) { port, descriptor in
                if port == AgentContract.controlPort { agent.control.accept(descriptor) } else { agent.streams.accept(descriptor) }
            }
        }
    }

    deinit {
        unlink(directory + "/vsock")
        rmdir(directory)
    }

    func connect() async throws -> AgentClient {
        try await AgentClient.connect(to: address, deadline: .now + .seconds(20))
    }

    /// A client on a started sandbox.
    func start() async throws -> AgentClient {
        let client = try await connect()
        _ = try await client.call(.startSandbox, .with { $0.sandboxID = "sandbox" }, timeout: .seconds(20))
        return client
    }

    /// A connected socket to a port, past the proxy's greeting, for bytes that no client would send.
    func rawConnection(port: UInt32) throws -> Int32 {
        let descriptor = try TestSocket.connect(directory + "/vsock")
        let line = Array("CONNECT \(port)\n".utf8)
        write(descriptor, line, line.count)
        var byte: UInt8 = 0
        while read(descriptor, &byte, 1) == 1, byte != UInt8(ascii: "\n") {}
        return descriptor
    }
}

/// Raised once; can be waited for.
final class Flag: Sendable {
    private let stream = AsyncStream<Void>.makeStream()

    func raise() { stream.continuation.finish() }

    func wait() async { for await _ in stream.stream {} }
}

/// A process of exec whose last argument is "held": it runs, but its launch does not return yet.
final class HeldLaunch: Sendable {
    let reached = Flag()
    let go: Latch
    private let process = Mutex<Int32>(-1)

    init() throws { go = try Latch() }

    deinit { close(process.withLock { $0 }) }

    fileprivate func hold(_ pid: pid_t) {
        process.withLock { $0 = clinux_pidfd_open(pid, 0) }
        reached.raise()
        go.wait()
    }

    /// Whether the process ends, waited for at most 20 seconds.
    func ends() -> Bool {
        var waited = pollfd(fd: process.withLock { $0 }, events: Int16(POLLIN), revents: 0)
        return poll(&waited, 1, 20_000) > 0
    }
}

/// Reads the proxy's line and hands the connection on.
private final class Greeting: Sendable {
    private let line = Mutex<[UInt8]>([])
    private let watch = Mutex<EventLoop.Watch?>(nil)

    init(_ descriptor: Int32, loop: EventLoop, connected: @escaping @Sendable (UInt32, Int32) -> Void) {
        let handle = try? loop.watch(descriptor, []) { [self] _ in
            var byte: UInt8 = 0
            while read(descriptor, &byte, 1) == 1 {
                let line = line.withLock { line in
                    line.append(byte)
                    return line
                }
                guard byte == UInt8(ascii: "\n") else { continue }
                if let watch = watch.withLock({ $0 }) { loop.unwatch(watch, descriptor: descriptor) }
                let port = UInt32(String(decoding: line.dropFirst(8).dropLast(), as: UTF8.self)) ?? 0
                let answer = Array("OK \(port)\n".utf8)
                write(descriptor, answer, answer.count)
                return connected(port, descriptor)
            }
        }
        watch.withLock { $0 = handle }
        if let handle { loop.change(handle, descriptor: descriptor, from: [], to: .readable) }
    }
}

/// A container that is nothing but its processes.
final class PlainContainer: PodContainer {
    private let spec: AgentContainerSpec
    private let pids = Mutex<[pid_t]>([])
    /// What the first process is to get.
    private let prepared = Mutex<ProcessDescriptors?>(nil)

    private let held: HeldLaunch

    init(_ id: String, _ spec: AgentContainerSpec, _ held: HeldLaunch) {
        self.spec = spec
        self.held = held
    }

    var oomKillCount: UInt64 { 0 }

    func prepare(stdio: ProcessDescriptors) throws(SwiftletError) -> ResolvedUser {
        let own = ProcessDescriptors(
            stdin: dup(stdio.stdin), stdout: dup(stdio.stdout), stderr: dup(stdio.stderr), terminal: stdio.terminal)
        prepared.withLock { $0 = own }
        return ResolvedUser(uid: 1, gid: 2, additionalGIDs: [3])
    }

    func start() throws(SwiftletError) -> pid_t {
        guard let stdio = takePrepared() else { throw SwiftletError(.failedPrecondition, "not prepared") }
        defer { Self.close(stdio) }
        return try spawn(spec.process, stdio)
    }

    private func takePrepared() -> ProcessDescriptors? {
        prepared.withLock { prepared in
            defer { prepared = nil }
            return prepared
        }
    }

    private static func close(_ stdio: ProcessDescriptors) {
        for descriptor in [stdio.stdin, stdio.stdout, stdio.stderr] { Glibc.close(descriptor) }
    }

    func exec(_ process: AgentProcessSpec, inherit: Bool, stdio: ProcessDescriptors) throws(SwiftletError) -> pid_t {
        let pid = try spawn(process, stdio)
        if process.args.last == "held" { held.hold(pid) }
        return pid
    }

    func openTerminal() -> (master: Int32, slave: Int32)? { nil }

    func signalAll(_ signal: Int32) throws(SwiftletError) {
        for pid in pids.withLock({ $0 }) { kill(-pid, signal) }
    }

    func update(_ files: [String: String]) throws(SwiftletError) {}

    func release() {
        try? signalAll(SIGKILL)
        if let stdio = takePrepared() { Self.close(stdio) }
    }

    private func spawn(_ process: AgentProcessSpec, _ stdio: ProcessDescriptors) throws(SwiftletError) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, stdio.stdin, 0)
        posix_spawn_file_actions_adddup2(&actions, stdio.stdout, 1)
        posix_spawn_file_actions_adddup2(&actions, stdio.stderr, 2)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
        var arguments: [UnsafeMutablePointer<CChar>?] = process.args.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var pid: pid_t = 0
        let failure = posix_spawnp(&pid, process.args.first ?? "", &actions, &attributes, &arguments, Glibc.environ)
        guard failure == 0 else { throw .system("running \(process.args.first ?? "nothing")", errno: failure) }
        pids.withLock { $0.append(pid) }
        return pid
    }
}
