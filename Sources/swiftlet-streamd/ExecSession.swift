import AgentClient
import AgentProtocol
import Concurrency
import Errors
import Foundation
import Logging
import NIOCore
import Runtime
import StreamServer

/// A process of Exec in a guest, whose bytes go to a client. It ends with its session.
final class ExecSession: ProcessSession {
    private let address: VsockAddress
    private let guests: Guests
    private let container: String
    private let process: String
    private let input: AgentInputStream?
    private let output: AgentOutputStream
    private let (out, error) = (OutputQueue(), OutputQueue())
    private let streams: StreamSet
    private let logger: Logger

    var stdin: (any ByteSink)? { input.map { GuestInput(stream: $0) } }
    var stdout: (any ByteSource)? { streams.stdout ? out : nil }
    var stderr: (any ByteSource)? { streams.stderr ? error : nil }

    private init(
        _ request: ExecRequest, process: String, at address: VsockAddress, _ guests: Guests, input: AgentInputStream?,
        output: AgentOutputStream, logger: Logger
    ) {
        (self.address, self.guests, container, self.process) = (address, guests, request.containerID, process)
        (self.input, self.output, streams, self.logger) = (input, output, request.streams, logger)
    }

    /// Starts the process.
    static func start(
        _ request: ExecRequest, size: TerminalSize?, at address: VsockAddress, _ guests: Guests, logger: Logger
    ) async throws -> ExecSession {
        let client = try await guests.link(to: address).client()
        let process = UUID().uuidString.lowercased()
        let (outputToken, inputToken) = (AgentClient.token(), AgentClient.token())
        let message = AgentExecRequest.with {
            $0.containerID = request.containerID
            $0.processID = process
            $0.inherit = true
            $0.process = .with {
                $0.args = request.command
                $0.terminal = request.streams.tty
                $0.stdin = request.streams.stdin
                $0.terminalWidth = UInt32(size?.width ?? 0)
                $0.terminalHeight = UInt32(size?.height ?? 0)
            }
            $0.outputToken = Data(outputToken)
            if request.streams.stdin { $0.stdinToken = Data(inputToken) }
        }
        do {
            _ = try await client.call(.exec, message, timeout: .seconds(25))
            let input = request.streams.stdin ? try await client.openInput(token: inputToken) : nil
            let output = try await client.openOutput(token: outputToken)
            let session = ExecSession(request, process: process, at: address, guests, input: input, output: output, logger: logger)
            Task { await session.carry() }
            return session
        } catch {
            // Also when the call failed: the guest may run the process all the same.
            forget(container: request.containerID, process, at: address, guests, logger)
            throw error
        }
    }

    /// Hands the guest's output to its readers; what nobody reads is dropped.
    private func carry() async {
        var taken = OutputOffsets()
        do {
            for try await chunk in output {
                let isOut = chunk.source == .stdout
                let queue = isOut ? out : error
                if !chunk.bytes.isEmpty {
                    if isOut ? streams.stdout : streams.stderr { await queue.put(ByteBuffer(bytes: chunk.bytes)) }
                    if isOut { taken.stdout += UInt64(chunk.bytes.count) } else { taken.stderr += UInt64(chunk.bytes.count) }
                }
                output.acknowledge(stdout: taken.stdout, stderr: taken.stderr)
                if chunk.end { queue.finish() }
            }
            for queue in [out, error] { queue.finish() }
        } catch let failure {
            for queue in [out, error] { queue.finish(.failure(failure)) }
        }
    }

    func resize(_ size: TerminalSize) async {
        let request = AgentResizeTerminalRequest.with {
            $0.containerID = container
            $0.processID = process
            ($0.width, $0.height) = (UInt32(size.width), UInt32(size.height))
        }
        // A process that has just ended has no terminal.
        _ = try? await guests.link(to: address).client().call(.resizeTerminal, request, timeout: .seconds(10))
    }

    func wait() async throws -> Int32 {
        Int32(clamping: try await guests.exit(of: container, process: process, at: address).exitCode)
    }

    func end() async {
        input?.close()
        output.close()
        for queue in [out, error] { queue.finish(.failure(SwiftletError(.cancelled, "the session has ended"))) }
        Self.forget(container: container, process, at: address, guests, logger)
    }

    /// Kills the process if it still runs, and frees what the guest keeps of it.
    private static func forget(
        container: String, _ process: String, at address: VsockAddress, _ guests: Guests, _ logger: Logger
    ) {
        let request = AgentDeleteProcessRequest.with {
            $0.containerID = container
            $0.processID = process
        }
        guests.afterwards {
            do {
                // A guest that is frozen reads it when it goes on.
                _ = try await guests.link(to: address).client().call(.deleteProcess, request, timeout: .seconds(10))
            } catch {
                logger.debug("process not forgotten", metadata: ["container": "\(container)", "error": "\(error)"])
            }
        }
    }
}
