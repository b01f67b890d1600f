import AgentClient
import AgentProtocol
import Errors
import Foundation
import Logs
import NIOCore
import Runtime
import StreamServer

/// A running container's first process, seen from now on. It goes on when the session ends.
final class AttachSession: ProcessSession {
    private let request: AttachRequest
    private let address: VsockAddress
    private let guests: Guests
    private let follower: OutputFollower
    private let input: AgentInputStream?

    var stdin: (any ByteSink)? { input.map { GuestInput(stream: $0, endsInput: request.endsInput) } }
    var stdout: (any ByteSource)? { request.streams.stdout ? Source(follower: follower, stream: .stdout) : nil }
    var stderr: (any ByteSource)? { request.streams.stderr ? Source(follower: follower, stream: .stderr) : nil }

    private init(
        _ request: AttachRequest, at address: VsockAddress, _ guests: Guests, _ follower: OutputFollower, _ input: AgentInputStream?
    ) {
        (self.request, self.address, self.guests, self.follower, self.input) = (request, address, guests, follower, input)
    }

    static func start(
        _ request: AttachRequest, size: TerminalSize?, at address: VsockAddress, _ guests: Guests, _ logs: LocalOutput
    ) async throws -> AttachSession {
        let follower = try logs.attach(request.containerID)
        do {
            let input = request.streams.stdin ? try await openInput(request.containerID, at: address, guests) : nil
            let session = AttachSession(request, at: address, guests, follower, input)
            if let size { await session.resize(size) }
            return session
        } catch {
            follower.leave()
            throw error
        }
    }

    /// - Returns: nil for a container without an open input.
    private static func openInput(_ container: String, at address: VsockAddress, _ guests: Guests) async throws -> AgentInputStream? {
        let client = try await guests.link(to: address).client()
        let token = AgentClient.token()
        let request = AgentOpenStreamRequest.with {
            $0.containerID = container
            $0.kind = .stdin
            $0.token = Data(token)
        }
        do {
            _ = try await client.call(.openStream, request, timeout: .seconds(10))
        } catch let error as SwiftletError where error.code == .failedPrecondition {
            return nil
        }
        return try await client.openInput(token: token)
    }

    func resize(_ size: TerminalSize) async {
        let resize = AgentResizeTerminalRequest.with {
            $0.containerID = request.containerID
            ($0.width, $0.height) = (UInt32(size.width), UInt32(size.height))
        }
        _ = try? await guests.link(to: address).client().call(.resizeTerminal, resize, timeout: .seconds(10))
    }

    /// What a container's exit code means to who watches it is in its status: a session that has seen its end has succeeded.
    func wait() async throws -> Int32 {
        do {
            _ = try await guests.exit(of: request.containerID, at: address)
        } catch let error as SwiftletError where error.code == .notFound {}
        return 0
    }

    func end() async {
        follower.leave()
        if request.endsInput { input?.closeWrite() }
        input?.close()
    }

    private struct Source: ByteSource {
        let follower: OutputFollower
        let stream: StandardStream

        func read() async throws -> ByteBuffer? { await follower.read(stream).map { ByteBuffer(bytes: $0) } }
    }
}
