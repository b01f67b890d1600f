import CLinux
import Concurrency
import Errors
import Glibc

/// Descriptors that one session reads and writes. What blocks, does so on threads of its own, and ends with the session.
final class SessionDescriptors: Sendable {
    /// Nobody reads what is written any more.
    struct ReaderGone: Error {}

    private static let piece = 64 << 10
    /// pipe(7): what can be written without blocking to a pipe that poll(2) reports.
    private static let atomicWrite = 4096

    /// Readable when the session is over.
    private let wake: Int32

    init() throws {
        wake = eventfd(0, Int32(EFD_CLOEXEC))
        guard wake >= 0 else { throw SwiftletError.system("eventfd") }
        // A reader that has gone is an error of write(2) then.
        signal(SIGPIPE, SIG_IGN)
    }

    deinit { close(wake) }

    /// Waits for bytes. - Returns: nil at the end, or when the session is over.
    func read(_ descriptor: Int32) async throws -> [UInt8]? {
        try await call { [self] in
            var bytes = [UInt8](repeating: 0, count: Self.piece)
            while isReady(descriptor, POLLIN) {
                let count = Glibc.read(descriptor, &bytes, bytes.count)
                if count > 0 { return Array(bytes[..<count]) }
                // Closed, or a terminal that was hung up, is an end as well.
                guard count < 0, errno == EAGAIN || errno == EINTR else { return nil }
            }
            return nil
        }
    }

    /// - Throws: ``ReaderGone``; `CancellationError` when the session is over.
    func write(_ bytes: some Collection<UInt8> & Sendable, to descriptor: Int32) async throws {
        try await call { [self] in
            let bytes = Array(bytes)
            var sent = 0
            while sent < bytes.count {
                guard isReady(descriptor, POLLOUT) else { throw CancellationError() }
                let count = bytes[sent...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, min($0.count, Self.atomicWrite)) }
                if count >= 0 {
                    sent += count
                } else if errno == EPIPE {
                    throw ReaderGone()
                } else if errno != EAGAIN && errno != EINTR {
                    throw SwiftletError.system("write what the container has sent")
                }
            }
        }
    }

    private func call<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withTaskCancellationHandler {
            try await OwnThread.run(work)
        } onCancel: {
            eventfd_write(wake, 1)
        }
    }

    /// - Returns: false when the session is over.
    private func isReady(_ descriptor: Int32, _ events: Int32) -> Bool {
        var set = [pollfd(fd: descriptor, events: Int16(events), revents: 0), pollfd(fd: wake, events: Int16(POLLIN), revents: 0)]
        while poll(&set, 2, -1) < 0, errno == EINTR {}
        return set[1].revents == 0
    }
}
