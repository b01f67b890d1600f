import CLinux
import Concurrency
import Errors
import Foundation
import Glibc
import Linux
import Runtime

/// A guest that has only vsock: no agent, no container (Tests/VsockGuest).
struct VsockCeiling: Sendable {
    let machine: RawMachine
    /// Its init in C, which has a source of bytes on port 19.
    let program: String

    /// Its ports, by what is measured there.
    private static let ports: [(transfer: Transfer, port: Int)] = [(.vsock, 19), (.forwarded, 22)]

    /// Boots it and takes bytes from it, by swiftlet-vsockd's socket.
    func measure(number: Int, bytes: Int, repetitions: Int) async throws -> [(transfer: Transfer, throughput: Throughput)] {
        try await machine.run(number: number, initramfs: initramfs()) { _, address in
            guard case .unixProxy(let path) = address else { throw SwiftletError(.internal, "raw QEMU has no vsock proxy") }
            return try await OwnThread.run {
                try Self.ports.flatMap { transfer, port in
                    try (0..<repetitions).map { _ in (transfer, try Self.take(bytes, from: path, port: port)) }
                }
            }
        }
    }

    /// The kernel unpacks archives one after the other: the second one replaces /init.
    private func initramfs() async throws -> String {
        let directory = machine.workspace.root + "/vsock-guest"
        try FileManager.default.createDirectory(atPath: directory + "/root", withIntermediateDirectories: true)
        let script = """
            set -e
            gcc -O2 -static -pthread -o root/init "$1"
            cp "$2" initramfs.img
            truncate -s %512 initramfs.img
            cd root
            echo init | cpio --quiet -o -H newc >> ../initramfs.img
            """
        let source = URL(fileURLWithPath: program).standardizedFileURL.path
        let result = try await Spawn("/bin/sh", ["-c", script, "sh", source, machine.guest.initramfs], directory: directory).run()
        guard result.succeeded else { throw SwiftletError(.internal, "building the vsock guest: \(result.errorText)") }
        return directory + "/initramfs.img"
    }

    /// Blocks.
    private static func take(_ bytes: Int, from path: String, port: Int) throws -> Throughput {
        let descriptor = try connect(path, port)
        defer { close(descriptor) }
        try write("\(bytes)\n", to: descriptor)
        var (count, buffer) = (TransferCount(), [UInt8](repeating: 0, count: 256 << 10))
        while true {
            let read = recv(descriptor, &buffer, buffer.count, 0)
            if read < 0, errno == EINTR { continue }
            guard read > 0 else { break }
            count.add(read)
        }
        guard count.bytes == bytes, let throughput = count.throughput else {
            throw SwiftletError(.dataLoss, "\(count.bytes) of \(bytes) bytes came by vsock")
        }
        return throughput
    }

    /// Connects to the guest's source, which may not be there yet.
    private static func connect(_ path: String, _ port: Int) throws -> Int32 {
        let deadline = ContinuousClock.now + .seconds(60)
        while true {
            let descriptor = clinux_unix_socket()
            guard descriptor >= 0 else { throw SwiftletError.system("making a socket") }
            _ = fcntl(descriptor, F_SETFL, 0)
            var limit = timeval(tv_sec: 60, tv_usec: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
            if clinux_unix_connect(descriptor, path) == 0, (try? write("CONNECT \(port)\n", to: descriptor)) != nil,
                line(from: descriptor).hasPrefix("OK ")
            {
                return descriptor
            }
            close(descriptor)
            guard ContinuousClock.now < deadline else { throw SwiftletError(.deadlineExceeded, "the vsock guest does not answer") }
            usleep(20_000)
        }
    }

    private static func write(_ text: String, to descriptor: Int32) throws {
        let bytes = Array(text.utf8)
        guard send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
            throw SwiftletError.system("writing by vsock")
        }
    }

    private static func line(from descriptor: Int32) -> String {
        var (line, byte): ([UInt8], UInt8) = ([], 0)
        while recv(descriptor, &byte, 1, 0) == 1, byte != UInt8(ascii: "\n") { line.append(byte) }
        return String(decoding: line, as: UTF8.self)
    }
}
