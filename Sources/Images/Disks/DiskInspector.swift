import CLinux
import Errors
import Foundation
import Glibc
import Linux
import Runtime

/// Asks swiftlet-diskinfo what a disk image is. The daemon itself reads none of an image's bytes but to copy and to digest them.
struct DiskInspector: Sendable {
    /// swiftlet-diskinfo.
    var program: String
    /// A look at the tables of the largest image that the store takes is a matter of seconds.
    var deadline = Duration.seconds(120)

    struct Geometry: Sendable, Equatable {
        var format: DiskImage.Format
        /// Bytes that the guest sees.
        var virtualSize: UInt64
    }

    private struct Answer: Decodable {
        var format: DiskImage.Format?
        var virtualSize: UInt64?
        var refusal: String?
    }

    /// Bytes of an answer, and of what a failure says.
    private static let mostOutput = 4096
    /// Bytes: 64 TiB. The program has the same bound; it is not believed.
    private static let largestDisk: UInt64 = 64 << 40

    /// Blocks until the program has ended.
    ///
    /// - Parameters:
    ///   - path: a file that nobody writes to any more.
    ///   - format: what it is said to be; nil: what it looks like.
    /// - Throws: `SwiftletError(.invalidArgument)` for a file that is refused, `.deadlineExceeded`, `.internal` when the program fails,
    ///   which a hostile image may have made it do.
    func inspect(_ path: String, saidToBe format: DiskImage.Format? = nil, isCancelled: () -> Bool = { false }) throws -> Geometry {
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard file >= 0 else { throw SwiftletError.system("open \(path)") }
        defer { close(file) }
        // The program is nobody by the time it opens the file that it was given. Nobody else gets into the directory.
        guard fchmod(file, 0o444) == 0 else { throw SwiftletError.system("set the mode of \(path)") }
        let (status, output, errors) = try run(format.map { ["--format", $0.rawValue] } ?? [], input: file, isCancelled)
        guard status == 0, let answer = try? JSONDecoder().decode(Answer.self, from: Data(output)) else {
            let said = errors.isEmpty ? "" : ": \(printable(String(decoding: errors, as: UTF8.self), limit: 300))"
            throw SwiftletError(.internal, "\(program) failed at this disk image, with status \(status)\(said)")
        }
        if let refusal = answer.refusal { throw SwiftletError(.invalidArgument, printable(refusal, limit: 1000)) }
        guard let format = answer.format, let size = answer.virtualSize, size > 0, size <= Self.largestDisk, size % 512 == 0 else {
            throw SwiftletError(.internal, "\(program) gave no answer that can be")
        }
        return Geometry(format: format, virtualSize: size)
    }

    // MARK: The process

    private func run(
        _ arguments: [String], input: Int32, _ isCancelled: () -> Bool
    ) throws -> (status: Int32, output: [UInt8], errors: [UInt8]) {
        let output = try Self.pipe()
        var open = [output.read]
        defer { open.forEach { close($0) } }
        let errors: (read: Int32, write: Int32)
        do { errors = try Self.pipe() } catch {
            close(output.write)
            throw error
        }
        open.append(errors.read)
        let started = Result { try DetachedProcess(program, arguments, descriptors: [input, output.write, errors.write]) }
        [output.write, errors.write].forEach { close($0) }
        let child = try started.get()
        var collected: [Int32: [UInt8]] = [:]
        let start = ContinuousClock.now
        do {
            while !open.isEmpty {
                guard start.duration(to: .now) < deadline else {
                    throw SwiftletError(.deadlineExceeded, "\(program) did not finish within \(deadline) and was killed")
                }
                guard !isCancelled() else { throw CancellationError() }
                var waiting = open.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
                // Milliseconds: how soon a cancelled pull ends it.
                guard poll(&waiting, nfds_t(waiting.count), 200) >= 0 || errno == EINTR else { throw SwiftletError.system("poll") }
                for ready in waiting where ready.revents != 0 {
                    if let piece = Self.read(ready.fd) {
                        collected[ready.fd, default: []].append(contentsOf: piece)
                        guard collected[ready.fd, default: []].count <= Self.mostOutput else {
                            throw SwiftletError(.internal, "\(program) said more than \(Self.mostOutput) bytes and was killed")
                        }
                    } else {
                        close(ready.fd)
                        open.removeAll { $0 == ready.fd }
                    }
                }
            }
        } catch {
            child.killAndReap()
            throw error
        }
        return (try Self.status(of: child, by: start + deadline), collected[output.read] ?? [], collected[errors.read] ?? [])
    }

    /// It has closed its outputs, which does not mean that it ends.
    private static func status(of child: DetachedProcess, by deadline: ContinuousClock.Instant) throws -> Int32 {
        var status: Int32 = 0
        while true {
            let result = waitpid(child.pid, &status, WNOHANG)
            if result == child.pid { break }
            guard result == 0 || errno == EINTR else { throw SwiftletError.system("wait for the disk inspector") }
            guard ContinuousClock.now < deadline else {
                child.killAndReap()
                throw SwiftletError(.deadlineExceeded, "the disk inspector did not end and was killed")
            }
            usleep(1000)
        }
        let signal = status & 0x7F
        return signal == 0 ? (status >> 8) & 0xFF : 128 + signal
    }

    private static func pipe() throws -> (read: Int32, write: Int32) {
        var pair: [Int32] = [-1, -1]
        guard clinux_pipe2(&pair, O_CLOEXEC) == 0 else { throw SwiftletError.system("make a pipe") }
        return (pair[0], pair[1])
    }

    /// Nil at the end.
    private static func read(_ descriptor: Int32) -> [UInt8]? {
        let piece = [UInt8](unsafeUninitializedCapacity: 1024) { buffer, count in
            repeat { count = Glibc.read(descriptor, buffer.baseAddress, buffer.count) } while count < 0 && errno == EINTR
            count = max(0, count)
        }
        return piece.isEmpty ? nil : piece
    }
}
