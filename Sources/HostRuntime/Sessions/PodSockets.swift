import CLinux
import Concurrency
import Errors
import Glibc
import Linux
import Logging

/// Hands out TCP sockets of a pod's network namespace, for connections to what listens there: whoever connects to a unix socket that root alone
/// reaches gets one of each family, and says nothing. A socket stays in the namespace that it was made in.
final class PodSockets: Sendable {
    private static let loop = Result { try EventLoop(name: "pod sockets") }

    private let descriptor: Int32
    private let watch: EventLoop.Watch
    private let loop: EventLoop

    /// Listens at the path, in the place of what is there.
    init(at path: String, namespace: String, logger: Logger) throws {
        let step = "listen at \(path)"
        loop = try Self.loop.get()
        let descriptor = clinux_unix_socket()
        guard descriptor >= 0 else { throw SwiftletError.system(step) }
        do {
            guard unlink(path) == 0 || errno == ENOENT else { throw SwiftletError.system(step) }
            guard clinux_unix_bind(descriptor, path, 0o600) == 0, listen(descriptor, 128) == 0 else { throw SwiftletError.system(step) }
            watch = try loop.watch(descriptor, .readable) { _ in Self.serve(descriptor, namespace, logger) }
        } catch {
            close(descriptor)
            throw error
        }
        self.descriptor = descriptor
    }

    deinit {
        loop.unwatch(watch, descriptor: descriptor)
        close(descriptor)
    }

    private static func serve(_ listener: Int32, _ namespace: String, _ logger: Logger) {
        let connection = clinux_unix_accept(listener)
        guard connection >= 0 else {
            // Out of descriptors, the loop would turn for nothing.
            if errno == EMFILE || errno == ENFILE { usleep(10_000) }
            return
        }
        defer { close(connection) }
        do {
            let sockets = try NetworkNamespace.runAndWait(in: namespace) {
                [AF_INET, AF_INET6].map { socket($0, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC, 0) }.filter { $0 >= 0 }
            }
            defer { sockets.forEach { close($0) } }
            var byte: UInt8 = 0
            guard !sockets.isEmpty, clinux_send_with_fds(connection, &byte, 1, sockets, Int32(sockets.count)) == 1 else {
                throw SwiftletError.system("hand out sockets")
            }
        } catch {
            logger.warning("no socket of a pod's network", metadata: ["namespace": "\(namespace)", "error": "\(error)"])
        }
    }
}
