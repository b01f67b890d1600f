import Errors
import Foundation
import Glibc
import Linux
import Logging
import Runtime
import Support
import Synchronization
import Testing

@testable import StreamControl

/// What a streamd has been told of logs; it keeps nothing beyond its end.
private final class PlayedStreamd: StreamControlHandler {
    struct State {
        var open: Set<String> = []
        var followed: Set<String> = []
        /// Those that are refused.
        var refused: Set<String> = []
        var drained: Set<String> = []
        /// Those whose opening takes until they are taken out.
        var slow: Set<String> = []
        /// Those whose containers have ended.
        var ended: Set<String> = []
        /// Of those that are consoles, the files.
        var consoles: [String: String] = [:]
        /// Those whose budget was lifted.
        var lifted: Set<String> = []
        var kept: [[String]] = []
        /// The addresses where it was to serve clients.
        var addresses: [String] = []
        /// The names of each container whose log was opened.
        var names: [String: ContainerNames?] = [:]
        var sockets: [String] = []
        /// Those that other processes write.
        var written: Set<String> = []
    }

    let state = Mutex(State())
    let features: [String]

    init(features: [String] = [StreamContract.logs, StreamContract.configure]) { self.features = features }

    func info(_ request: StreamGetInfoRequest) async throws -> StreamGetInfoResponse {
        .with {
            ($0.features, $0.pid) = (features, -1)
            $0.positions = "/positions"
            if features.contains(StreamContract.collection) { $0.collectors = [.with { ($0.kind, $0.sentLines) = ("socket", 7) }] }
        }
    }
    func configure(_ request: StreamConfigureRequest) async throws -> StreamConfigureResponse {
        state.withLock { state in
            state.addresses.append(request.address)
            if request.hasCollection { state.sockets.append(request.collection.socket) }
        }
        return StreamConfigureResponse()
    }
    func prepareExec(_ request: StreamPrepareExecRequest) async throws -> StreamPreparedSession { StreamPreparedSession() }
    func prepareAttach(_ request: StreamPrepareAttachRequest) async throws -> StreamPreparedSession { StreamPreparedSession() }
    func preparePortForward(_ request: StreamPreparePortForwardRequest) async throws -> StreamPreparedSession { StreamPreparedSession() }
    func openLog(_ request: StreamOpenLogRequest) async throws -> StreamOpenLogResponse {
        while state.withLock({ $0.slow.contains(request.containerID) }) { try await Task.sleep(for: .milliseconds(5)) }
        try state.withLock { state in
            guard !state.refused.contains(request.containerID) else { throw SwiftletError(.failedPrecondition, "no such directory") }
            state.open.insert(request.containerID)
            state.names[request.containerID] = request.target.names
            if request.target.isWritten { state.written.insert(request.containerID) }
        }
        return StreamOpenLogResponse()
    }
    func followLog(_ request: StreamFollowLogRequest) async throws -> StreamFollowLogResponse {
        state.withLock { state in
            state.followed.insert(request.containerID)
            if request.hasConsole { state.consoles[request.containerID] = request.console.log }
        }
        return StreamFollowLogResponse()
    }
    func reopenLog(_ request: StreamReopenLogRequest) async throws -> StreamReopenLogResponse {
        guard state.withLock({ $0.open.contains(request.containerID) }) else { throw SwiftletError(.failedPrecondition, "not open") }
        return StreamReopenLogResponse()
    }
    func waitForLog(_ request: StreamWaitForLogRequest) async throws -> StreamWaitForLogResponse {
        if request.liftBudget { state.withLock { _ = $0.lifted.insert(request.containerID) } }
        if request.hasEnded_p { state.withLock { _ = $0.ended.insert(request.containerID) } }
        while !state.withLock({ $0.drained.contains(request.containerID) }) { try await Task.sleep(for: .milliseconds(5)) }
        return StreamWaitForLogResponse()
    }
    func closeLog(_ request: StreamCloseLogRequest) async throws -> StreamCloseLogResponse {
        state.withLock { state in
            state.open.remove(request.containerID)
            state.followed.remove(request.containerID)
        }
        return StreamCloseLogResponse()
    }
    func keepLogs(_ request: StreamKeepLogsRequest) async throws -> StreamKeepLogsResponse {
        state.withLock { $0.kept.append(request.containerIds) }
        return StreamKeepLogsResponse()
    }
    func awaitSession(_ request: StreamAwaitSessionRequest) async throws -> StreamAwaitSessionResponse { StreamAwaitSessionResponse() }
    func joinProcess(_ request: StreamJoinProcessRequest) async throws -> StreamJoinProcessResponse { StreamJoinProcessResponse() }
    func deliverOutput(_ request: StreamDeliverOutputRequest) async throws -> StreamDeliverOutputResponse {
        StreamDeliverOutputResponse()
    }
}

/// swiftletd's side of the logs, across streamds that come and go.
@Suite(.timeLimit(.minutes(2))) struct StreamDaemonTests {
    private let path = NSTemporaryDirectory() + "streamd-\(UInt32.random(in: 0 ... .max))"
    private let endpoint = OutputEndpoint.agent(.unixProxy(path: "/none"), container: "c")

    /// Of a program that cannot be started: what answers is what the test serves.
    private func daemon(
        binary: String = "/nonexistent", collectsTo socket: String? = nil, patience: Duration = .seconds(10),
        idleDelay: Duration = .seconds(60),
        logger: Logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    ) -> StreamDaemon {
        let sessions = StreamConfigureRequest.with {
            $0.address = "127.0.0.1:1"
            if let socket { $0.collection.socket = socket }
        }
        var configuration = StreamDaemon.Configuration(
            binary: binary, controlSocket: path, sessions: sessions, positions: "/positions", log: "/dev/null")
        (configuration.patience, configuration.idleDelay) = (patience, idleDelay)
        return StreamDaemon(configuration: configuration, logger: logger)
    }

    private func target(_ id: String) -> LogTarget { LogTarget(container: id, directory: "/logs", path: id) }

    /// Serves until `body` returns; its connections end then too, as with a killed process.
    private func withStreamd(_ streamd: PlayedStreamd, _ daemon: StreamDaemon, _ body: () async throws -> Void) async throws {
        let server = try StreamControlServer(path: path, handler: streamd)
        try await body()
        server.stop()
        daemon.live?.close()
    }

    @Test func aLogsBudgetAndRotationReachStreamd() throws {
        var log = target("c")
        #expect(StreamOpenLogRequest(log).target == log)
        log.budget = LogBudget(bytesPerSecond: 1, operationsPerSecond: 2, excess: .drop)
        log.rotation = LogRotation(maxSize: 65536, maxFiles: 3)
        let bytes: [UInt8] = try StreamOpenLogRequest(log).serializedBytes()
        let request = try StreamOpenLogRequest(serializedBytes: bytes)
        #expect(request.target == log)
    }

    @Test func theNextStreamdIsToldOfLogsThatAreOpenAndOfNoOthers() async throws {
        let daemon = daemon()
        try await withStreamd(PlayedStreamd(), daemon) {
            await daemon.keep(only: ["c", "exited"])
            for id in ["c", "gone"] { try await daemon.open(target(id)) }
            daemon.follow("c", from: endpoint)
            await daemon.close("gone")
        }
        let next = PlayedStreamd()
        try await withStreamd(next, daemon) {
            try await eventually("it is followed again") { next.state.withLock { $0.followed == ["c"] } }
            #expect(next.state.withLock { $0.open } == ["c"])
            #expect(next.state.withLock { $0.kept } == [["c", "exited"]])
            #expect(next.state.withLock { $0.addresses } == ["127.0.0.1:1"])
            next.state.withLock { _ = $0.drained.insert("c") }
            await daemon.drained("c")
        }
        daemon.close()
    }

    /// A node whose containers write their logs themselves follows none.
    @Test func aStreamdThatHasEndedIsConnectedToAgainWhereNobodyAsksForIt() async throws {
        let daemon = daemon(idleDelay: .milliseconds(20))
        try await withStreamd(PlayedStreamd(), daemon) { await daemon.keep(only: ["exited"]) }
        // One that cannot be started meanwhile does not end it.
        try await Task.sleep(for: .milliseconds(100))
        let next = PlayedStreamd()
        try await withStreamd(next, daemon) {
            try await eventually("it is told again") { next.state.withLock { $0.kept == [["exited"]] } }
            #expect(next.state.withLock { $0.addresses } == ["127.0.0.1:1"])
            daemon.close()
        }
        let last = PlayedStreamd()
        try await withStreamd(last, daemon) {
            try await Task.sleep(for: .milliseconds(200))
            #expect(last.state.withLock { $0.addresses.isEmpty }, "it has ended")
        }
    }

    /// Logs go on with an older one: replacing it would end its sessions.
    @Test func streamdIsToldWhereLinesGoAndWhoseTheyAreOrItIsSaidThatItIsTooOld() async throws {
        let log = RecordedLog()
        let daemon = daemon(collectsTo: "/run/vector.sock", patience: .seconds(2), logger: log.logger)
        let names = ContainerNames(namespace: "shop", pod: "web-0", podUID: "11-22", container: "app", attempt: 3)
        var target = self.target("c")
        target.names = names
        let streamd = PlayedStreamd(features: [StreamContract.logs, StreamContract.configure, StreamContract.collection])
        try await withStreamd(streamd, daemon) {
            for target in [target, self.target("d")] { try await daemon.open(target) }
            #expect(streamd.state.withLock { $0.names } == ["c": names, "d": nil])
            #expect(streamd.state.withLock { $0.sockets } == ["/run/vector.sock"])
            try await eventually("it says what became of them") { daemon.collectors.map(\.sentLines) == [7] }
        }
        let said = { log.lines.filter { $0.contains("logs are not collected") }.count }
        #expect(said() == 0)
        try await withStreamd(PlayedStreamd(), daemon) {
            try await daemon.open(self.target("e"))
            #expect(said() == 1)
        }
        daemon.close()
    }

    /// A streamd that knows nothing of it would write to the file; and nobody reads where nothing is collected.
    @Test func logsThatOthersWriteAreReadForCollectorsAlone() async throws {
        let known = [StreamContract.logs, StreamContract.configure, StreamContract.collection]
        let (daemon, quiet) = (daemon(collectsTo: "/run/vector.sock"), daemon())
        var log = target("c")
        (log.budget, log.rotation) = (LogBudget(bytesPerSecond: 1), LogRotation(maxSize: 65536, maxFiles: 3))
        let streamd = PlayedStreamd(features: known + [StreamContract.written])
        try await withStreamd(streamd, daemon) {
            quiet.collect(log)
            daemon.collect(log)
            daemon.collect(log)
            try await eventually("it is read") { streamd.state.withLock { $0.followed == ["c"] && $0.written == ["c"] } }
            // Its container's end waits for nothing.
            await daemon.drained("c")
        }
        let older = PlayedStreamd(features: known)
        try await withStreamd(older, daemon) {
            try await eventually("it is there") { older.state.withLock { !$0.addresses.isEmpty } }
            try await Task.sleep(for: .milliseconds(200))
            #expect(older.state.withLock { $0.open.isEmpty })
        }
        let next = PlayedStreamd(features: known + [StreamContract.written])
        try await withStreamd(next, daemon) {
            try await eventually("the next one reads it") { next.state.withLock { $0.followed == ["c"] } }
            await daemon.remove("c")
            #expect(next.state.withLock { $0.followed.isEmpty && $0.open.isEmpty })
        }
        daemon.close()
        quiet.close()
    }

    private let console = OutputEndpoint.console(log: "/console", socket: "/socket")
    private static let features = [StreamContract.logs, StreamContract.configure, StreamContract.console]

    @Test func aConsoleEndsWhenItIsToBeDrainedAlsoForTheNextStreamd() async throws {
        let daemon = daemon()
        let streamd = PlayedStreamd(features: Self.features)
        let ended = { (streamd: PlayedStreamd) in streamd.state.withLock { $0.ended } }
        try await withStreamd(streamd, daemon) {
            for (id, endpoint) in [("vm", console), ("c", endpoint)] {
                try await daemon.open(target(id))
                daemon.follow(id, from: endpoint)
            }
            try await eventually("both are followed") { streamd.state.withLock { $0.followed == ["vm", "c"] } }
            #expect(streamd.state.withLock { $0.consoles } == ["vm": "/console"])
            #expect(ended(streamd).isEmpty)
            for id in ["vm", "c"] { Task { await daemon.drained(id) } }
            try await eventually("it is told of the end") { ended(streamd) == ["vm"] }
        }
        let next = PlayedStreamd(features: Self.features)
        try await withStreamd(next, daemon) {
            try await eventually("the next one is") { ended(next) == ["vm"] }
            next.state.withLock { $0.drained = ["vm", "c"] }
            await daemon.drained("vm")
        }
        daemon.close()
    }

    @Test func anOlderStreamdIsNotAskedForWhatItDoesNotKnow() async throws {
        let log = RecordedLog()
        let daemon = daemon(logger: log.logger)
        let streamd = PlayedStreamd()
        try await withStreamd(streamd, daemon) {
            try await daemon.open(target("vm"))
            daemon.follow("vm", from: console)
            let said = "consoles are not read: swiftlet-streamd is of an older"
            try await eventually("it is said") { log.lines.contains { $0.contains(said) } }
            #expect(streamd.state.withLock { $0.followed.isEmpty })
            let streams = SessionStreams(stdin: true, stdout: true, stderr: false, terminal: true)
            await #expect {
                _ = try await daemon.attach(to: console, of: "vm", in: "s", streams, stdinOnce: false)
            } throws: {
                ($0 as? SwiftletError)?.code == .unavailable
            }
            await #expect {
                _ = try await daemon.portForward(to: .namespace(path: "/ns", address: "10.0.0.1"), of: "s", ports: [])
            } throws: {
                ($0 as? SwiftletError)?.code == .unavailable
            }
            let output = SessionStreams(stdin: false, stdout: true, stderr: true, terminal: false)
            await #expect {
                _ = try await daemon.exec(of: "vm", in: "s", output) { _ in Issue.record("it is run") }
            } throws: {
                ($0 as? SwiftletError)?.code == .unavailable
            }
            // Whoever serves, with what to do instead.
            await #expect { _ = try await daemon.exec(["true"], in: console, of: "s", streams) } throws: {
                ($0 as? SwiftletError)?.code == .unimplemented && "\($0)".contains("kubectl attach")
            }
        }
        daemon.close()
    }

    @Test func aConsoleAndAPodsNetworkArriveAsTheyWereNamed() throws {
        #expect(try StreamFollowLogRequest("vm", console).endpoint() == console)
        #expect(try StreamFollowLogRequest("c", endpoint).endpoint() == endpoint)
        for (log, socket) in [("", "/s"), ("/l", "s"), ("/l\n", "/s"), ("/l", "/" + String(repeating: "s", count: 107))] {
            #expect(throws: SwiftletError.self) { try StreamConsole(log: log, socket: socket, sandbox: "").endpoint() }
        }
        let network = StreamPodNetwork(namespace: "/run/netns/p", address: "fd00::9", sandbox: "s")
        #expect(try network.endpoint() == .namespace(path: "/run/netns/p", address: "fd00::9"))
        let wrong = [("", "10.0.0.1"), ("p", "10.0.0.1"), ("/p", ""), ("/p", "host"), ("/p", "0.0.0.0"), ("/p", "127.0.0.1")]
        for (namespace, address) in wrong {
            #expect(throws: SwiftletError.self) {
                try StreamPodNetwork(namespace: namespace, address: address, sandbox: "").endpoint()
            }
        }
    }

    @Test func aLogThatIsRefusedWhenItIsToldAgainIsTriedUntilItIsTaken() async throws {
        let daemon = daemon()
        try await withStreamd(PlayedStreamd(), daemon) {
            for id in ["c", "d"] {
                try await daemon.open(target(id))
                daemon.follow(id, from: endpoint)
            }
        }
        let next = PlayedStreamd()
        next.state.withLock { $0.refused = ["c"] }
        try await withStreamd(next, daemon) {
            try await eventually("the other is not held up") { next.state.withLock { $0.followed == ["d"] } }
            let drained = Atomic(false)
            let waiting = Task {
                await daemon.drained("c")
                drained.store(true, ordering: .relaxed)
            }
            next.state.withLock { $0.drained = ["c", "d"] }
            try await Task.sleep(for: .milliseconds(100))
            let isDrained = drained.load(ordering: .relaxed)
            #expect(!isDrained)
            next.state.withLock { $0.refused = [] }
            await waiting.value
            #expect(next.state.withLock { $0.followed } == ["c", "d"])
        }
        daemon.close()
    }

    @Test func aLogIsReopenedAlsoByAStreamdThatDidNotHaveItOpen() async throws {
        let daemon = daemon()
        try await withStreamd(PlayedStreamd(), daemon) { try await daemon.open(target("c")) }
        let next = PlayedStreamd()
        try await withStreamd(next, daemon) {
            try await daemon.reopen("c")
            #expect(next.state.withLock { $0.open } == ["c"])
            let error = await #expect(throws: SwiftletError.self) { try await daemon.reopen("unknown") }
            #expect(error?.code == .failedPrecondition)
        }
        daemon.close()
    }

    @Test func aLogThatIsClosedWhileItIsOpenedIsNotLeftOpen() async throws {
        let daemon = daemon()
        let streamd = PlayedStreamd()
        streamd.state.withLock { $0.slow = ["c"] }
        try await withStreamd(streamd, daemon) {
            let opening = Task { try await daemon.open(target("c")) }
            try await eventually("it is being opened") { daemon.openings.isRunning("c") }
            opening.cancel()
            let closing = Task { await daemon.close("c") }
            try await Task.sleep(for: .milliseconds(100))
            streamd.state.withLock { $0.slow = [] }
            await closing.value
            #expect(streamd.state.withLock { $0.open.isEmpty })
        }
        daemon.close()
    }

    /// A log that its budget holds up would be lost with its container. A streamd that was started since is told too.
    @Test(arguments: [false, true]) func streamdIsToldThatABudgetIsLifted(_ isStartedAnew: Bool) async throws {
        let daemon = daemon()
        var target = target("c")
        target.budget = LogBudget(bytesPerSecond: 1)
        let streamd = PlayedStreamd()
        let waiting = Mutex<Task<Void, Never>?>(nil)
        try await withStreamd(streamd, daemon) {
            try await daemon.open(target)
            daemon.follow("c", from: endpoint)
            try await eventually("it is followed") { streamd.state.withLock { $0.followed == ["c"] } }
            #expect(streamd.state.withLock { $0.lifted.isEmpty })
            waiting.withLock { $0 = Task { await daemon.drained("c") } }
            await daemon.liftBudget(of: "c")
            try await eventually("it is told") { streamd.state.withLock { $0.lifted == ["c"] } }
            if !isStartedAnew {
                streamd.state.withLock { $0.drained = ["c"] }
                await waiting.withLock { $0 }?.value
            }
        }
        if isStartedAnew {
            let next = PlayedStreamd()
            try await withStreamd(next, daemon) {
                try await eventually("the next one is told") { next.state.withLock { $0.lifted == ["c"] } }
                next.state.withLock { $0.drained = ["c"] }
                await waiting.withLock { $0 }?.value
            }
        }
        daemon.close()
    }

    @Test(
        arguments: [
            nil, LogBudget(bytesPerSecond: 5), LogBudget(operationsPerSecond: 6, excess: .drop),
            LogBudget(bytesPerSecond: .max, operationsPerSecond: 1),
        ] as [LogBudget?])
    func aLogArrivesAsItWasAskedFor(_ budget: LogBudget?) throws {
        let log = LogTarget(container: "c", directory: "/logs", path: "d/c.log", budget: budget)
        let request = try StreamOpenLogRequest(serializedBytes: try StreamOpenLogRequest(log).serializedBytes() as [UInt8])
        #expect(request.target == log)
    }

    @Test func whoWaitsForALogThatIsClosedWaitsNoLonger() async throws {
        let daemon = daemon()
        try await withStreamd(PlayedStreamd(), daemon) {
            try await daemon.open(target("c"))
            daemon.follow("c", from: endpoint)
            let waiting = Task { await daemon.drained("c") }
            await daemon.remove("c")
            await waiting.value
        }
        daemon.close()
    }

    @Test func aDaemonWithoutStreamdNamesTheReasonAndEndsEverythingWithoutWaiting() async throws {
        let daemon = daemon()
        let error = await #expect(throws: SwiftletError.self) { try await daemon.open(target("c")) }
        #expect(error?.code == .unavailable && error.map { "\($0)" }?.contains("/nonexistent") == true)
        let began = ContinuousClock.now
        daemon.follow("c", from: endpoint)
        await daemon.drained("c")
        await daemon.close("c")
        await daemon.remove("c")
        #expect(ContinuousClock.now - began < .seconds(5))
        daemon.close()
    }
}
