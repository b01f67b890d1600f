import Errors
import Foundation
import Glibc
import Linux

/// QEMU with a vsock device by swiftlet-vsockd and the guest of Tests/VsockGuest, without libvirt or an agent.
final class VsockMachine: Sendable {
    static let echo = 7
    static let sink = 9
    static let source = 19
    static let call = 20
    static let control = 21

    let directory: String
    let device: VsockProcess
    let machine: VsockProcess
    var hostSocket: String { directory + "/host.sock" }

    /// Builds the guest, starts the device and QEMU. The guest boots while clients of `hostSocket` wait.
    init() throws {
        let environment = try Node.Environment.current()
        directory = "\(environment.scratch)/vsock-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let initramfs = try Self.makeInitramfs(in: directory, from: environment.guest + "/initramfs.img")
        device = try VsockProcess(
            environment.build + "/swiftlet-vsockd",
            ["--vhost-socket", directory + "/vhost.sock", "--host-socket", directory + "/host.sock", "--guest-cid", "5"],
            log: directory + "/vsockd.log")
        let (socket, running) = (directory + "/host.sock", device)
        try VsockProcess.wait("swiftlet-vsockd to listen") { FileManager.default.fileExists(atPath: socket) || !running.isRunning }
        machine = try VsockProcess(
            "/usr/bin/qemu-system-x86_64",
            [
                "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "256,slots=2,maxmem=1G", "-nodefaults", "-display", "none",
                "-object", "memory-backend-memfd,id=ram,size=256M,share=on", "-numa", "node,memdev=ram",
                "-kernel", environment.guest + "/vmlinuz", "-initrd", initramfs,
                "-append", "console=ttyS0 quiet loglevel=1 panic=-1 reboot=t", "-serial", "file:\(directory)/console.log",
                "-chardev", "socket,id=vu0,path=\(directory)/vhost.sock",
                "-device", #"{"driver":"vhost-user-vsock-pci","chardev":"vu0","id":"vsock0"}"#,
                "-monitor", "unix:\(directory)/monitor.sock,server=on,wait=off",
            ], log: directory + "/qemu.log")
    }

    /// Ends both processes and deletes the directory.
    func destroy() {
        machine.kill()
        device.kill()
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// Gives QEMU's monitor a command, as a person would.
    func monitor(_ command: String) throws {
        let stream = try VsockStream(path: directory + "/monitor.sock")
        try stream.write(Array((command + "\n").utf8))
        // The prompt comes back once before the command and once after it.
        var text = ""
        while text.components(separatedBy: "(qemu) ").count < 3 {
            let part = try stream.read()
            guard !part.isEmpty else { break }
            text += String(decoding: part, as: UTF8.self)
        }
    }

    /// The kernel unpacks archives one after the other: the second one replaces /init.
    private static func makeInitramfs(in directory: String, from initramfs: String) throws -> String {
        let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("VsockGuest/vsock_guest.c").path
        let script = """
            set -e
            mkdir root
            gcc -O2 -static -pthread -o root/init "$1"
            cp "$2" initramfs.img
            truncate -s %512 initramfs.img
            cd root
            echo init | cpio --quiet -o -H newc >> ../initramfs.img
            """
        let result = try Spawn(
            "/bin/sh", ["-c", script, "sh", source, initramfs], directory: directory, deadline: .seconds(120)
        ).runAndWait()
        guard result.succeeded else { throw SwiftletError(.internal, "building the vsock guest: \(result.errorText)") }
        return directory + "/initramfs.img"
    }
}

/// A child that runs beside the test.
final class VsockProcess: Sendable {
    let pid: pid_t

    init(_ program: String, _ arguments: [String], log: String) throws {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        var argv: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
        defer { for argument in argv { free(argument) } }
        var pid: pid_t = 0
        let failure = posix_spawn(&pid, program, &actions, nil, &argv, environ)
        guard failure == 0 else { throw SwiftletError(.internal, "starting \(program): \(String(cString: strerror(failure)))") }
        self.pid = pid
    }

    /// False once it has ended; a zombie has.
    var isRunning: Bool {
        guard let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8) else { return false }
        return stat.split(separator: ")").last?.split(separator: " ").first != "Z"
    }

    func kill() {
        Glibc.kill(pid, SIGKILL)
        waitpid(pid, nil, 0)
    }

    /// A number in kB from /proc/PID/status.
    func status(_ field: String) throws -> Int {
        let text = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
        let line = text.split(separator: "\n").first { $0.hasPrefix(field + ":") }
        return line.flatMap { $0.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) } } ?? 0
    }

    /// Asks every few milliseconds, for two minutes at most.
    static func wait(_ what: String, until condition: () throws -> Bool) throws {
        let end = ContinuousClock.now + .seconds(120)
        while try !condition() {
            guard ContinuousClock.now < end else { throw SwiftletError(.deadlineExceeded, "waited in vain for \(what)") }
            usleep(5000)
        }
    }
}

/// A blocking stream to a unix socket; each read or write ends after four minutes.
final class VsockStream: Sendable {
    private let descriptor: Int32

    init(path: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var time = timeval(tv_sec: 240, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        guard result == 0 else { throw SwiftletError(.unavailable, "connecting to \(path): \(String(cString: strerror(errno)))") }
    }

    /// Connects to a port of the guest.
    convenience init(_ machine: VsockMachine, _ port: Int) throws {
        try self.init(path: machine.hostSocket)
        try write(Array("CONNECT \(port)\n".utf8))
        let answer = try readLine()
        guard answer == "OK \(port)" else { throw SwiftletError(.unavailable, "port \(port): \(answer)") }
    }

    deinit { close(descriptor) }

    func write(_ bytes: [UInt8]) throws {
        var done = 0
        while done < bytes.count {
            let result = bytes.withUnsafeBytes {
                send(descriptor, $0.baseAddress.map { $0 + done }, bytes.count - done, Int32(MSG_NOSIGNAL))
            }
            guard result > 0 else { throw SwiftletError(.unavailable, "write: \(String(cString: strerror(errno)))") }
            done += result
        }
    }

    /// Some bytes; none at the end.
    func read(_ limit: Int = 1 << 18) throws -> [UInt8] {
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
            count = max(0, recv(descriptor, buffer.baseAddress, limit, 0))
        }
        return bytes
    }

    func readLine() throws -> String {
        var line: [UInt8] = []
        while let byte = try read(1).first, byte != UInt8(ascii: "\n") { line.append(byte) }
        return String(decoding: line, as: UTF8.self)
    }

    func endWriting() { shutdown(descriptor, Int32(SHUT_WR)) }
}
