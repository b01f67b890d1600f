import CLinux
import Glibc

/// Bytes waiting for a slow host socket: a ring that grows by doubling up to a bound and is freed when it runs empty.
final class SocketBacklog {
    let limit: Int
    private var storage: UnsafeMutableRawPointer?
    private var capacity = 0
    private var start = 0
    private(set) var count = 0

    /// - Parameter limit: bytes it will ever hold.
    init(limit: Int) {
        self.limit = limit
    }

    deinit {
        free(storage)
    }

    var isEmpty: Bool { count == 0 }

    /// Copies `vector` from `offset` bytes on.
    /// - Returns: false, and holds what it held, if that would pass the limit or memory is short.
    func append(_ vector: UnsafeBufferPointer<iovec>, from offset: Int) -> Bool {
        var total = -offset
        for part in vector { total += part.iov_len }
        guard total > 0 else { return total == 0 }
        guard total <= limit - count, reserve(count + total) else { return false }
        var skip = offset
        for part in vector {
            guard let base = part.iov_base, skip < part.iov_len else {
                skip -= part.iov_len
                continue
            }
            copyIn(UnsafeRawPointer(base) + skip, part.iov_len - skip)
            skip = 0
        }
        return true
    }

    /// Writes what the socket takes.
    /// - Returns: bytes written; -1 with `errno` set when the socket failed, 0 also when it is full.
    func send(to descriptor: Int32) -> Int {
        guard let storage, count > 0 else { return 0 }
        let first = min(count, capacity - start)
        let written = withUnsafeTemporaryAllocation(of: iovec.self, capacity: 2) { parts in
            parts[0] = iovec(iov_base: storage + start, iov_len: first)
            parts[1] = iovec(iov_base: storage, iov_len: count - first)
            return clinux_send_vector(descriptor, parts.baseAddress, count > first ? 2 : 1)
        }
        guard written > 0 else { return written < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : written }
        count -= written
        start = (start + written) % capacity
        if count == 0 { clear() }
        return written
    }

    func clear() {
        free(storage)
        storage = nil
        (capacity, start, count) = (0, 0, 0)
    }

    private func copyIn(_ source: UnsafeRawPointer, _ length: Int) {
        guard let storage else { return }
        let end = (start + count) % capacity
        let first = min(length, capacity - end)
        memcpy(storage + end, source, first)
        memcpy(storage, source + first, length - first)
        count += length
    }

    private func reserve(_ wanted: Int) -> Bool {
        guard wanted > capacity else { return true }
        var size = max(capacity, 4096)
        while size < wanted { size *= 2 }
        guard let fresh = malloc(size) else { return false }
        if let storage {
            let first = min(count, capacity - start)
            memcpy(fresh, storage + start, first)
            memcpy(fresh + first, storage, count - first)
            free(storage)
        }
        storage = fresh
        capacity = size
        start = 0
        return true
    }
}
