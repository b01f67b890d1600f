import Concurrency
import Errors
import Foundation
import Glibc
import Linux
import Runtime

/// A seccomp profile on the node, which a container names as Localhost.
enum SeccompProfileFile {
    /// Docker's own profile has 13 KiB.
    static let largest = 1 << 20

    /// - Throws: `.notFound` for an absent file; `.invalidArgument` for one that is no regular file, too large or no profile.
    static func load(_ path: String) async throws -> SeccompDocument {
        let contents = try await OwnThread.run { try read(path) }
        do {
            return try SeccompDocument.decode(contents)
        } catch {
            throw SwiftletError(.invalidArgument, "seccomp profile \(path)", cause: error)
        }
    }

    private static func read(_ path: String) throws -> Data {
        // Not blocking: the path may be a FIFO.
        let descriptor = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
        guard descriptor >= 0 else {
            guard errno != ENOENT, errno != ENOTDIR else {
                throw SwiftletError(.notFound, "seccomp profile \(path) is not on this node: put it there or correct localhost_ref")
            }
            throw SwiftletError.system("open seccomp profile \(path)")
        }
        let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw SwiftletError.system("look at seccomp profile \(path)") }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw SwiftletError(.invalidArgument, "seccomp profile \(path) is no regular file")
        }
        let contents = try file.read(upToCount: largest + 1) ?? Data()
        guard contents.count <= largest else {
            throw SwiftletError(.invalidArgument, "seccomp profile \(path) is larger than \(largest) bytes")
        }
        return contents
    }
}
