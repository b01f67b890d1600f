import Errors
import Support
import Synchronization
import Testing

@testable import Pods
@testable import Runtime

/// Sessions in containers whose commands have no streams.
@Suite(.timeLimit(.minutes(1))) struct SessionCommandTests {
    /// Keeps what it is to run until the client comes.
    private final class Sessions: ContainerSessions {
        let commands = Mutex<[SessionCommand]>([])

        func exec(_ command: [String], in endpoint: OutputEndpoint, of sandbox: String, _ streams: SessionStreams) async throws -> String {
            "streams"
        }
        func exec(of container: String, in sandbox: String, _ streams: SessionStreams, run: @escaping SessionCommand) async throws -> String
        {
            commands.withLock { $0.append(run) }
            return "whole \(sandbox) \(container)"
        }
        func exec(
            joining container: String, in sandbox: String, _ streams: SessionStreams, open: @escaping SessionProcess
        ) async throws
            -> String
        { "process" }
        func attach(
            to endpoint: OutputEndpoint, of container: String, in sandbox: String, _ streams: SessionStreams, stdinOnce: Bool
        ) async throws -> String { "" }
        func portForward(to endpoint: PortEndpoint, of sandbox: String, ports: [Int32]) async throws -> String { "" }

        func last() throws -> SessionCommand { try #require(commands.withLock { $0.last }) }
    }

    @Test func aCommandIsRunWhenItsClientComesAndItsContainerStillRuns() async throws {
        let sessions = Sessions()
        let node = try await FakeNode(sessions: sessions)
        try await node.loadImage()
        let pod = try await node.registry.runSandbox(FakeNode.spec())
        let machine = try #require(node.handler.machine(of: pod))
        let spec = ContainerSpec(metadata: .init(name: "c", attempt: 0), image: FakeNode.image)
        let id = try await node.registry.createContainer(in: pod, spec)
        let streams = SessionStreams(stdin: false, stdout: true, stderr: true, terminal: false)
        let early = await #expect(throws: SwiftletError.self) { try await node.registry.prepareExec(id, ["a"], streams) }
        #expect(early?.code == .failedPrecondition)
        try await node.registry.startContainer(id)
        #expect(try await node.registry.prepareExec(id, ["a"], streams) == "streams")
        machine.life.runWhole()
        let empty = await #expect(throws: SwiftletError.self) { try await node.registry.prepareExec(id, [], streams) }
        #expect(empty?.code == .invalidArgument)
        #expect(try await node.registry.prepareExec(id, ["a", "b"], streams) == "whole \(pod) \(id)")
        let delivered = Mutex<[ExecResult]>([])
        let run = try sessions.last()
        try await run { result in delivered.withLock { $0.append(result) } }
        #expect(delivered.withLock { $0 } == [ExecResult(stdout: Array("a b".utf8), stderr: [], exitCode: 0)])
        // One that its client does not take ends the command's run with the reason.
        await #expect(throws: CancellationError.self) { try await run { _ in throw CancellationError() } }

        machine.life.end(ProcessExit(code: 0, outOfMemory: false, exitedAt: 0))
        try await eventually("the end is recorded") { try node.registry.container(id).state.exit != nil }
        let late = await #expect(throws: SwiftletError.self) { try await run { _ in Issue.record("it has run") } }
        #expect(late?.code == .failedPrecondition)
        await node.close()
    }

    /// What waits for slow clients counts as what ExecSyncs collect.
    @Test func outputThatWaitsForItsClientIsCounted() async throws {
        let sessions = Sessions()
        let node = try await FakeNode(sessions: sessions)
        try await node.loadImage()
        let pod = try await node.registry.runSandbox(FakeNode.spec())
        try #require(node.handler.machine(of: pod)).life.runWhole()
        let spec = ContainerSpec(metadata: .init(name: "c", attempt: 0), image: FakeNode.image)
        let id = try await node.registry.createContainer(in: pod, spec)
        try await node.registry.startContainer(id)
        let streams = SessionStreams(stdin: false, stdout: true, stderr: true, terminal: false)
        let command = [String(repeating: "x", count: 12 << 20)]
        _ = try await node.registry.prepareExec(id, command, streams)
        let run = try sessions.last()
        // 32 MiB a pod.
        try await run { _ in
            try await run { _ in
                let refused = await #expect(throws: SwiftletError.self) { try await run { _ in } }
                #expect(refused?.code == .resourceExhausted)
            }
        }
        try await run { result in #expect(result.stdout.count == 12 << 20 && !result.isCut) }
        await node.close()
    }
}
