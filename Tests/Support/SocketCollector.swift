import Errors
import Foundation
import Glibc
import Synchronization

/// A collector of logs on a unix stream socket, which does what it is told.
public final class SocketCollector: Sendable {
    public enum Behaviour: Sendable, Equatable {
        case reads
        /// Takes connections and reads nothing.
        case hangs
        /// Closes each connection after that many bytes, at once for 0.
        case leaves(after: Int)
    }

    public let path: String
    private let descriptor: Int32
    private let behaviour: Behaviour
    /// A descriptor is closed, and shut down, while it is held: another test may have its number afterwards.
    private let state = Mutex((isListening: true, connections: [Int32](), received: [[UInt8]]()))

    public init(path: String, _ behaviour: Behaviour = .reads) throws {
        (self.path, self.behaviour) = (path, behaviour)
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: path.utf8) }
        unlink(path)
        let result = withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        guard result == 0, listen(descriptor, 8) == 0 else { throw SwiftletError(.unavailable, "listen on \(path): errno \(errno)") }
        Thread.detachNewThread { self.accept() }
    }

    /// What came over each connection.
    public var received: [[UInt8]] { state.withLock { $0.received } }

    /// The lines of all connections, each as JSON.
    public var records: [[String: Any]] {
        received.flatMap { $0.split(separator: 0x0A) }.compactMap {
            (try? JSONSerialization.jsonObject(with: Data($0))) as? [String: Any]
        }
    }

    /// Ends as a killed process does.
    public func stop() {
        state.withLock { state in
            // The thread that accepts sees it.
            if state.isListening { shutdown(descriptor, Int32(SHUT_RDWR)) }
            for connection in state.connections { shutdown(connection, Int32(SHUT_RDWR)) }
        }
        unlink(path)
    }

    private func accept() {
        while true {
            let connection = Glibc.accept(descriptor, nil, nil)
            guard connection >= 0 else { break }
            let index = state.withLock { state in
                state.connections.append(connection)
                state.received.append([])
                return state.received.count - 1
            }
            if behaviour != .hangs { Thread.detachNewThread { self.read(connection, index) } }
        }
        state.withLock { state in
            state.isListening = false
            close(descriptor)
        }
    }

    private func read(_ connection: Int32, _ index: Int) {
        defer {
            state.withLock { state in
                state.connections.removeAll { $0 == connection }
                close(connection)
            }
        }
        var left = Int.max
        if case .leaves(let after) = behaviour { left = after }
        var part = [UInt8](repeating: 0, count: 65536)
        while left > 0 {
            let count = recv(connection, &part, min(part.count, left), 0)
            guard count > 0 else { return }
            left -= count
            state.withLock { $0.received[index] += part[..<count] }
        }
    }
}
