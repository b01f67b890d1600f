import AgentProtocol
import Errors
import Foundation
import Logging
import Runtime

/// Reads the output of containers' first processes from the agents of their guests.
public struct AgentOutput: OutputReader {
    private static let shortestPause = Duration.milliseconds(50)
    private static let longestPause = Duration.seconds(2)

    private let links: AgentLinks
    private let logger: Logger

    public init(links: AgentLinks, logger: Logger) {
        self.links = links
        self.logger = logger
    }

    /// Goes on through whatever fails: who knows that the machine is gone cancels it.
    public func copy(from endpoint: OutputEndpoint, to sink: any OutputSink, until end: OutputEnd) async throws {
        switch endpoint {
        case .agent(let address, let container): try await copy(container, at: address, to: sink)
        case .conmon: throw SwiftletError(.notFound, "a container of the node has no agent")
        case .console: throw SwiftletError(.notFound, "a console has no agent")
        }
    }

    private func copy(_ id: String, at address: VsockAddress, to sink: any OutputSink) async throws {
        var ended: Set<StandardStream> = []
        var pause = Self.shortestPause
        var isTold = false
        while ended.count < 2 {
            let began = ContinuousClock.now
            do {
                let safe = try await sink.flush()
                try await copyOnce(try await links.link(to: address), id, to: sink, safe, &ended)
            } catch let error as SwiftletError where error.code == .notFound || error.code == .cancelled {
                throw error
            } catch {
                // A full disk, a stalled guest, a lost connection: the guest keeps the output meanwhile.
                try Task.checkCancellation()
                // A guest that breaks the protocol may do so for ever.
                let isBroken = (error as? SwiftletError)?.code == .dataLoss
                logger.log(
                    level: isBroken && !isTold ? .warning : .debug, "output interrupted",
                    metadata: ["container": "\(id)", "error": "\(error)"])
                isTold = isTold || isBroken
                if .now - began > Self.longestPause { pause = Self.shortestPause }
                try await Task.sleep(for: pause)
                pause = min(pause * 2, Self.longestPause)
            }
        }
    }

    /// Where a connection goes on: behind what the log has, since what was only received would be lost with this process.
    private struct Place {
        /// The guest's count.
        var start: OutputOffsets
        /// What the log counts beyond the guest.
        var shift: OutputOffsets
        /// Bytes that come again although the log has received them.
        var known: OutputOffsets

        init(start: OutputOffsets, safe: OutputOffsets, received: OutputOffsets) {
            self.start = start
            shift = safe.minus(start)
            known = received.minus(safe)
        }

        /// Takes off what is known.
        mutating func new(_ bytes: [UInt8], from source: StandardStream) -> [UInt8] {
            let count: Int
            switch source {
            case .stdout:
                count = Int(min(known.stdout, UInt64(bytes.count)))
                known.stdout -= UInt64(count)
            case .stderr:
                count = Int(min(known.stderr, UInt64(bytes.count)))
                known.stderr -= UInt64(count)
            }
            return count == 0 ? bytes : Array(bytes.dropFirst(count))
        }
    }

    private func copyOnce(
        _ link: AgentLink, _ id: String, to sink: any OutputSink, _ safe: OutputOffsets, _ ended: inout Set<StandardStream>
    ) async throws {
        let client = try await link.client()
        let token = AgentClient.token()
        let received = await sink.received()
        var place = Place(start: safe, safe: safe, received: received)
        do {
            try await openOutput(client, id, token, place.start)
        } catch let error as SwiftletError where error.code == .outOfRange {
            // The log counts other bytes than the guest: two containers wrote to one file. Go on where the guest is.
            place = Place(start: try await acknowledged(client, id), safe: safe, received: received)
            try await openOutput(client, id, token, place.start)
        }
        let stream = try await client.openOutput(token: token, stdoutOffset: place.start.stdout, stderrOffset: place.start.stderr)
        defer { stream.close() }
        try await copy(stream, from: &place, to: sink, &ended)
    }

    private func openOutput(_ client: AgentClient, _ id: String, _ token: [UInt8], _ offsets: OutputOffsets) async throws {
        let request = AgentOpenStreamRequest.with {
            $0.containerID = id
            $0.kind = .output
            $0.token = Data(token)
            $0.stdoutOffset = offsets.stdout
            $0.stderrOffset = offsets.stderr
        }
        _ = try await client.call(.openStream, request, timeout: .seconds(10))
    }

    private func acknowledged(_ client: AgentClient, _ id: String) async throws -> OutputOffsets {
        let containers = try await client.call(.list, AgentListRequest(), timeout: .seconds(10), limit: 256 << 10).containers
        guard let process = containers.first(where: { $0.containerID == id })?.process else {
            throw SwiftletError(.notFound, "container \(id): the guest does not know it")
        }
        let offsets = OutputOffsets(stdout: process.stdoutAcknowledged, stderr: process.stderrAcknowledged)
        let most = max(offsets.stdout, offsets.stderr)
        guard most <= GuestCount.most else {
            throw SwiftletError(.dataLoss, "container \(id): the guest says that \(most) bytes of its output were taken")
        }
        return offsets
    }

    private func copy(
        _ stream: AgentOutputStream, from place: inout Place, to sink: any OutputSink, _ ended: inout Set<StandardStream>
    ) async throws {
        func acknowledge(_ safe: OutputOffsets) {
            let safe = safe.minus(place.shift)
            stream.acknowledge(stdout: safe.stdout, stderr: safe.stderr)
        }
        for try await chunk in stream {
            let source = chunk.source.stream
            let bytes = place.new(chunk.bytes, from: source)
            if !bytes.isEmpty { acknowledge(try await sink.take(bytes, from: source)) }
            if chunk.end {
                let safe = try await sink.finish(source)
                // Not before: a last line that the disk has no room for is written when it has.
                ended.insert(source)
                acknowledge(safe)
            }
        }
        guard ended.count == 2 else { throw SwiftletError(.unavailable, "output stream ended early") }
    }
}

extension OutputOffsets {
    /// Modulo 2^64: the difference of counts of a guest may be negative.
    fileprivate func minus(_ other: OutputOffsets) -> OutputOffsets {
        OutputOffsets(stdout: stdout &- other.stdout, stderr: stderr &- other.stderr)
    }
}

extension AgentClient {
    /// 32 random bytes.
    public static func token() -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }
}

extension OutputSource {
    fileprivate var stream: StandardStream {
        switch self {
        case .stdout: .stdout
        case .stderr: .stderr
        }
    }
}
