import CLinux
import Errors
import Glibc
import Synchronization

@testable import VsockDevice

/// Runs blocking code on a thread of its own, so that it never sits on Swift's cooperative pool.
func onThread<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
        startThread { continuation.resume(with: Result { try body() }) }
    }
}

@discardableResult
func startThread(_ body: @escaping @Sendable () -> Void) -> pthread_t {
    final class Box: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var thread = pthread_t()
    let argument = Unmanaged.passRetained(Box(body)).toOpaque()
    pthread_create(
        &thread, nil,
        { pointer in
            guard let pointer else { return nil }
            Unmanaged<Box>.fromOpaque(pointer).takeRetainedValue().body()
            return nil
        }, argument)
    return thread
}

/// A device with its sockets in a directory of its own, on a thread of its own.
final class DeviceUnderTest: Sendable {
    let directory: String
    private let stopDescriptor: Int32
    private let thread: pthread_t
    private let outcome: Outcome

    private final class Outcome: Sendable {
        let result = Mutex<Result<VsockDevice.End, SwiftletError>?>(nil)
    }

    var vhostSocket: String { directory + "/vhost.sock" }
    var hostSocket: String { directory + "/host.sock" }

    init(machineUser: uid_t? = nil, _ adjust: (inout VsockDeviceOptions.Limits) -> Void = { _ in }) throws {
        var template = Array("/tmp/vsock-device-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw VhostUserDriver.Failure(description: "mkdtemp: \(systemErrorText())") }
        let directory = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
        self.directory = directory
        var limits = VsockDeviceOptions.Limits()
        adjust(&limits)
        let options = VsockDeviceOptions(
            vhostSocket: directory + "/vhost.sock", hostSocket: directory + "/host.sock", guestCID: GuestStack.cid,
            machineUser: machineUser, limits: limits)
        let stop = clinux_eventfd()
        stopDescriptor = stop
        let outcome = Outcome()
        self.outcome = outcome
        let ready = clinux_eventfd()
        thread = startThread {
            let made = Result { try VsockDevice(options) }
            var one: UInt64 = 1
            _ = write(ready, &one, 8)
            let result = made.flatMap { device in Result { try device.run(until: stop) } }
            outcome.result.withLock { $0 = result.mapError { SwiftletError.wrap($0, "device under test") } }
        }
        var entry = pollfd(fd: ready, events: Int16(POLLIN), revents: 0)
        _ = poll(&entry, 1, -1)
        close(ready)
    }

    /// Waits until the device ended by itself.
    func join() throws -> VsockDevice.End {
        pthread_join(thread, nil)
        close(stopDescriptor)
        let end = outcome.result.withLock { $0 }
        for name in Self.names(in: directory) { unlink(directory + "/" + name) }
        rmdir(directory)
        return try end?.get() ?? .stopped
    }

    @discardableResult
    func stop() throws -> VsockDevice.End {
        var one: UInt64 = 1
        _ = write(stopDescriptor, &one, 8)
        return try join()
    }

    var leftovers: [String] { Self.names(in: directory) }

    private static func names(in directory: String) -> [String] {
        guard let stream = opendir(directory) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = String(cString: clinux_entry_name(entry))
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }
}

/// A host program's blocking connection; every wait ends after a minute.
final class HostClient {
    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    let descriptor: Int32

    init(descriptor: Int32) {
        self.descriptor = descriptor
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~O_NONBLOCK)
        var time = timeval(tv_sec: 60, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }

    convenience init(path: String) throws {
        self.init(descriptor: clinux_unix_socket())
        guard clinux_unix_connect(descriptor, path) == 0 else { throw Failure(description: "connect: \(systemErrorText())") }
    }

    /// Connects to a port of the guest.
    convenience init(_ device: DeviceUnderTest, port: UInt32) throws {
        try self.init(path: device.hostSocket)
        try write("CONNECT \(port)\n")
        let answer = try readLine()
        guard answer == "OK \(port)" else { throw Failure(description: answer) }
    }

    deinit { close() }

    private var open = true
    func close() {
        if open { Glibc.close(descriptor) }
        open = false
    }

    func write(_ text: String) throws { try write(Array(text.utf8)) }

    func write(_ bytes: [UInt8]) throws {
        var done = 0
        while done < bytes.count {
            let result = bytes.withUnsafeBytes {
                send(descriptor, $0.baseAddress.map { $0 + done }, bytes.count - done, Int32(MSG_NOSIGNAL))
            }
            guard result > 0 else { throw Failure(description: "write: \(systemErrorText())") }
            done += result
        }
    }

    /// Up to `limit` bytes; none at the end of the stream.
    func read(_ limit: Int = 65536) throws -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: limit)
        let result = recv(descriptor, &buffer, limit, 0)
        guard result >= 0 else { throw Failure(description: "read: \(systemErrorText())") }
        return Array(buffer.prefix(result))
    }

    func read(exactly count: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        while bytes.count < count {
            let part = try read(min(65536, count - bytes.count))
            guard !part.isEmpty else { throw Failure(description: "end after \(bytes.count) of \(count) bytes") }
            bytes += part
        }
        return bytes
    }

    func readToEnd() throws -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            let part = try read()
            if part.isEmpty { return bytes }
            bytes += part
        }
    }

    /// Waits for the end of the stream, orderly or by reset (the device closed with bytes of ours unread).
    func waitForEnd() throws {
        var byte: UInt8 = 0
        while true {
            let result = recv(descriptor, &byte, 1, 0)
            if result == 0 || (result < 0 && errno == ECONNRESET) { return }
            guard result > 0 else { throw Failure(description: "no end: \(systemErrorText())") }
        }
    }

    func readLine() throws -> String {
        var line: [UInt8] = []
        while true {
            let byte = try read(1)
            guard let first = byte.first else { return "end after '\(String(decoding: line, as: UTF8.self))'" }
            if first == UInt8(ascii: "\n") { return String(decoding: line, as: UTF8.self) }
            line.append(first)
        }
    }

    func endWriting() { shutdown(descriptor, Int32(SHUT_WR)) }
}
