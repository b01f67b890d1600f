import AgentClient
import AgentProtocol
import Errors
import Foundation
import Logging
import Support
import Synchronization
import Testing

@testable import Runtime

/// Takes everything and counts.
private final class CountingSink: OutputSink {
    private let taken = Mutex(OutputOffsets())

    func received() async -> OutputOffsets { taken.withLock { $0 } }
    func flush() async throws -> OutputOffsets { await received() }
    func writePart(of source: StandardStream) async throws -> OutputOffsets { await received() }
    func lose(_ count: UInt64, of source: StandardStream) async throws -> OutputOffsets { await received() }
    func finish(_ source: StandardStream) async throws -> OutputOffsets { await received() }

    func take(_ bytes: [UInt8], from source: StandardStream) async throws -> OutputOffsets {
        taken.withLock { $0.stdout += UInt64(bytes.count) }
        return await received()
    }
}

/// A guest that refuses to go on where the host is and says that it has been acknowledged 2^64-1 bytes: adding to that overflows.
@Suite(.timeLimit(.minutes(1))) struct HostileOffsetsTests {
    @Test(arguments: [UInt64.max, 1 << 63, GuestCount.most + 1]) func anAbsurdOffsetIsRefused(_ offset: UInt64) async throws {
        let path = NSTemporaryDirectory() + "offsets-\(UInt32.random(in: 0 ... .max))"
        let lists = Mutex(0)
        let guest = try InProcessGuest(at: path) { method in
            switch method {
            case "OpenStream": return .failure(SwiftletError(.outOfRange, "no"))
            case "List":
                lists.withLock { $0 += 1 }
                let list = AgentListResponse.with {
                    $0.containers = [
                        .with {
                            $0.containerID = "c"
                            $0.process.stdoutAcknowledged = offset
                        }
                    ]
                }
                return .success((try? list.serializedBytes()) ?? [])
            default: return InProcessGuest.plain(method)
            }
        }
        defer { guest.end() }
        let links = AgentLinks()
        let sink = CountingSink()
        let copying = Task {
            try await AgentOutput(links: links, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
                .copy(from: .agent(.unixProxy(path: path), container: "c"), to: sink, until: OutputEnd())
        }
        try await eventually("it is asked again") { lists.withLock { $0 } >= 2 }
        copying.cancel()
        await #expect(throws: (any Error).self) { try await copying.value }
        #expect(await sink.received() == OutputOffsets())
    }
}

/// A guest that answers and hangs up, again and again.
@Suite(.timeLimit(.minutes(1))) struct HangingUpTests {
    @Test func aGuestThatHangsUpIsAskedEverLessOften() async throws {
        let path = NSTemporaryDirectory() + "hanging-up-\(UInt32.random(in: 0 ... .max))"
        let connections = Mutex(0)
        let guest = try InProcessGuest(at: path, hangsUp: true) { method in
            connections.withLock { $0 += 1 }
            return InProcessGuest.plain(method)
        }
        defer { guest.end() }
        let client = try await AgentClient.connect(to: .unixProxy(path: path), deadline: .now + .seconds(30))
        let link = AgentLink(address: .unixProxy(path: path), client: client, mark: .init(), clockIsRight: true)
        let began = ContinuousClock.now
        let watch = Task { await link.lostForGood() }
        try await eventually("it is connected to again and again") { connections.withLock { $0 } >= 9 }
        // 10, 20, 40, ... ms.
        #expect(ContinuousClock.now - began >= .milliseconds(1000))
        link.close()
        _ = await watch.value
    }
}
