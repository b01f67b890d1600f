import CRI
import Errors
import Foundation
import GRPC
import Linux
import Logging
import ServiceLifecycle
import Synchronization
import Testing

@testable import swiftletd

@Suite(.timeLimit(.minutes(5))) struct DaemonServiceTests {
    /// What was closed, in order.
    private final class Closed: Sendable {
        let names = Mutex<[String]>([])
        func add(_ name: String) { names.withLock { $0.append(name) } }
        var all: [String] { names.withLock { $0 } }

        var openings: Openings {
            var openings = Openings()
            for name in ["first", "second"] { openings.add { self.add(name) } }
            return openings
        }
    }

    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func group(_ socket: String, _ start: @escaping @Sendable () async throws -> Daemon) -> ServiceGroup {
        ServiceGroup(
            configuration: .init(
                services: [DaemonService(start: start, manager: ServiceManager(socket: socket), logger: logger)], logger: logger))
    }

    @Test func theManagerHearsWhenItServesAndWhenItEnds() async throws {
        try await TestNode.with { node in
            let manager = try NotificationSocket(node.directory + "/notify")
            let closed = Closed()
            let group = group(node.directory + "/notify") { Daemon(opened: closed.openings) }
            async let ended: Void = group.run()
            #expect(try await manager.next() == "READY=1")
            #expect(closed.all == [])
            await group.triggerGracefulShutdown()
            try await ended
            #expect(try await manager.next() == "STOPPING=1")
            #expect(closed.all == ["second", "first"])
        }
    }

    @Test func anEndThatIsAskedForDuringTheStartCancelsIt() async throws {
        try await TestNode.with { node in
            let manager = try NotificationSocket("@" + node.directory)
            let starting = AsyncStream<Void>.makeStream()
            let group = group("@" + node.directory) {
                starting.continuation.finish()
                try await Task.sleep(for: .seconds(300))
                throw SwiftletError(.internal, "the start was not cancelled")
            }
            async let ended: Void = group.run()
            for await _ in starting.stream {}
            await group.triggerGracefulShutdown()
            try await ended
            #expect(try await manager.next() == "STOPPING=1")
        }
    }

    @Test func aStartThatIsNotCancelledInTimeIsClosed() async throws {
        try await TestNode.with { node in
            let closed = Closed()
            let starting = AsyncStream<Void>.makeStream()
            let group = group(node.directory + "/nobody") {
                starting.continuation.finish()
                // A step that does not hear of it.
                try? await Task.sleep(for: .seconds(300))
                return Daemon(opened: closed.openings)
            }
            async let ended: Void = group.run()
            for await _ in starting.stream {}
            await group.triggerGracefulShutdown()
            try await ended
            #expect(closed.all == ["second", "first"])
        }
    }

    @Test func aStartThatFailsIsTheServicesFailure() async throws {
        let group = group("") { throw SwiftletError(.failedPrecondition, "no kernel") }
        let error = await #expect(throws: SwiftletError.self) { try await group.run() }
        #expect(error?.message == "no kernel")
    }

    /// At whatever step: what it had opened is closed, so that the next start finds nothing in its way.
    @Test func aCancelledStartLeavesNothingOpen() async throws {
        try await TestNode.with { node in
            let (configuration, logger) = (node.configuration, logger)
            let cancelled = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                return try await Daemon.start(configuration, logger: logger)
            }
            await #expect(throws: (any Error).self) { try await cancelled.value }
            let daemon = try await Daemon.start(node.configuration, logger: logger)
            let cri = try node.connection()
            #expect(try await cri.call(RuntimeRPC.version, .init()).runtimeName == "swiftlet")
            await #expect(throws: SwiftletError.self, "the directory is taken") {
                try await Daemon.start(configuration, logger: logger)
            }
            await daemon.close()
            await cri.close()
            #expect(!FileManager.default.fileExists(atPath: node.directory + "/swiftletd.sock"))
        }
    }

    /// A service manager starts the next one as soon as it knows that the last was killed.
    @Test func aDaemonWaitsForTheOneBeforeItToEnd() async throws {
        try await TestNode.with { node in
            let (configuration, logger) = (node.configuration, logger)
            let first = try await Daemon.start(configuration, logger: logger)
            let next = Task { try await Daemon.start(configuration, logger: logger) }
            try await Task.sleep(for: .milliseconds(300))
            await first.close()
            let daemon = try await next.value
            let cri = try node.connection()
            #expect(try await cri.call(RuntimeRPC.version, .init()).runtimeName == "swiftlet")
            await cri.close()
            await daemon.close()
        }
    }

    @Test func theConfigurationIsPrintedWithItsDefaults() async throws {
        try await TestNode.with { node in
            let file = node.directory + "/c.toml"
            let program = try TestNode.program().path
            try Data("root = \"/data\"\n".utf8).write(to: URL(fileURLWithPath: file))
            let printed = try await Spawn(program, ["--print-config", "--config", file], deadline: .seconds(60)).run()
            let configuration = try JSONDecoder().decode(Configuration.self, from: Data(printed.outputText.utf8))
            #expect(printed.succeeded && configuration.root == "/data")
            #expect(configuration.network.pluginDirectories == Configuration().network.pluginDirectories)
            try Data("rot = 1\n".utf8).write(to: URL(fileURLWithPath: file))
            let refused = try await Spawn(program, ["--print-config", "--config", file], deadline: .seconds(60)).run()
            #expect(!refused.succeeded && refused.errorText.contains("rot"))
        }
    }

    @Test func userIDsOfAnotherDaemonAreRefused() async throws {
        try await TestNode.with { first in
            let daemon = try await Daemon.start(first.configuration, logger: logger)
            try await TestNode.with { second in
                var configuration = second.configuration
                configuration.machine.firstPodUID = first.configuration.machine.firstPodUID + first.configuration.machine.podUIDs - 1
                configuration.machine.podUIDs = 1
                let error = await #expect(throws: SwiftletError.self) { try await Daemon.start(configuration, logger: logger) }
                #expect(error?.code == .failedPrecondition && error?.message.contains("machine.pod_uid_first") == true)
                configuration.machine.firstPodUID = 1000
                let system = await #expect(throws: SwiftletError.self) { try await Daemon.start(configuration, logger: logger) }
                #expect(system?.code == .invalidArgument && system?.description.contains("machine.pod_uid_first") == true)
                try await Daemon.start(second.configuration, logger: logger).close()
            }
            await daemon.close()
        }
    }

    /// The program itself, from its start to SIGTERM.
    @Test func theProgramEndsWithSuccessOnSIGTERM() async throws {
        try await TestNode.with { node in
            let manager = try NotificationSocket(node.directory + "/notify")
            let daemon = try node.launch(environment: ["NOTIFY_SOCKET": node.directory + "/notify"])
            defer { daemon.end() }
            #expect(try await manager.next() == "READY=1", "\(daemon.said)")
            daemon.process.terminate()
            #expect(try await manager.next() == "STOPPING=1")
            daemon.process.waitUntilExit()
            #expect(daemon.process.terminationReason == .exit && daemon.process.terminationStatus == 0, "\(daemon.said)")
        }
    }
}
