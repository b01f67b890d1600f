import ConsoleOutput
import Logs
import NIOCore
import Runtime
import StreamServer

/// A machine's console: the last of what it has written, and all that it writes from then on. It goes on when the session ends.
final class ConsoleSession: ProcessSession {
    private let streams: StreamSet
    private let tail: ConsoleTail?
    private let input: ConsoleInput?
    /// Tells of the machine's end.
    private let follower: OutputFollower
    private let end: OutputEnd

    var stdin: (any ByteSink)? { input.map(Sink.init) }
    var stdout: (any ByteSource)? { tail.map(Source.init) }
    /// A serial port has one output.
    var stderr: (any ByteSource)? { streams.stderr ? NoSource() : nil }

    private init(_ streams: StreamSet, _ tail: ConsoleTail?, _ input: ConsoleInput?, _ follower: OutputFollower, _ end: OutputEnd) {
        (self.streams, self.tail, self.input, self.follower, self.end) = (streams, tail, input, follower, end)
    }

    static func start(
        _ request: AttachRequest, log: String, socket: String, _ consoles: ConsoleInputs, _ logs: LocalOutput
    ) async throws -> ConsoleSession {
        let (follower, end) = (try logs.watchEnd(of: request.containerID), OutputEnd())
        do {
            let input = request.streams.stdin ? try consoles.join(socket) : nil
            do {
                let tail = request.streams.stdout ? try await ConsoleTail.open(log, until: end) : nil
                return ConsoleSession(request.streams, tail, input, follower, end)
            } catch {
                input?.leave()
                throw error
            }
        } catch {
            follower.leave()
            throw error
        }
    }

    /// A serial port has no size.
    func resize(_ size: TerminalSize) async {}

    func wait() async throws -> Int32 {
        while await follower.read(.stderr) != nil {}
        // What the file holds is still shown.
        end.come()
        return 0
    }

    func end() async {
        input?.leave()
        follower.leave()
        end.come()
    }

    private struct Source: ByteSource {
        let tail: ConsoleTail

        func read() async throws -> ByteBuffer? { try await tail.read().map { ByteBuffer(bytes: $0) } }
    }

    private struct NoSource: ByteSource {
        func read() async throws -> ByteBuffer? { nil }
    }

    private struct Sink: ByteSink {
        let input: ConsoleInput

        func write(_ bytes: ByteBuffer) async throws { try await input.write(Array(bytes.readableBytesView)) }

        /// A serial port's input has no end.
        func close() async {}
    }
}
