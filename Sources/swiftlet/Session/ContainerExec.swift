import CRI
import Errors
import NIOCore
import StreamClient
import Synchronization

/// Runs commands in one container without a terminal, for this command's own purposes.
struct ContainerExec: Sendable {
    /// Bytes that are kept of what a command says on standard error.
    private static let maximumErrors = 4096

    let daemon: Daemon
    let connector: SessionConnector
    let container: String

    struct Outcome: Sendable {
        let code: Int32
        let errors: String
    }

    /// - Parameters:
    ///   - output: takes standard output.
    ///   - input: says standard input, and is cancelled when the command has ended; nil for none.
    func run(
        _ command: [String], output: @escaping @Sendable (ByteBuffer) async throws -> Void = { _ in },
        input: (@Sendable (CommandInput) async throws -> Void)? = nil
    ) async throws -> Outcome {
        let url = try await daemon.call(
            RuntimeRPC.exec,
            .with {
                ($0.containerID, $0.cmd) = (container, command)
                ($0.stdin, $0.stdout, $0.stderr) = (input != nil, true, true)
            }, "running \(command[0])"
        ).url
        let errors = Mutex<[UInt8]>([])
        let code = try await connector.command(at: url).run { type, bytes in
            if type == .stdout { return try await output(bytes) }
            errors.withLock { $0 += bytes.readableBytesView.prefix(Self.maximumErrors - $0.count) }
        } input: { stdin in
            try await input?(stdin)
        }
        return Outcome(code: code, errors: errors.withLock { String(decoding: $0, as: UTF8.self) })
    }
}
