import Errors
import Foundation
import Glibc
import Linux

/// A tmpfs of a few MiB that tests fill.
struct SmallFileSystem {
    let path: String
    private var ballast: String { path + "/ballast" }

    /// Runs `body` on a file system of `size` MiB.
    static func with(size: Int, _ body: (SmallFileSystem) async throws -> Void) async throws {
        let path = NSTemporaryDirectory() + "small-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try await Spawn("/bin/mount", ["-t", "tmpfs", "-o", "size=\(size)m", "tmpfs", path]).check()
        let result: Result<Void, any Error>
        do { result = .success(try await body(SmallFileSystem(path: path))) } catch { result = .failure(error) }
        umount2(path, Int32(MNT_DETACH))
        try? FileManager.default.removeItem(atPath: path)
        try result.get()
    }

    /// Takes all the room there is, also while others write.
    func fill() throws {
        let descriptor = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(descriptor) }
        while true {
            var status = stat()
            guard fstat(descriptor, &status) == 0 else { throw SwiftletError.system("look at the ballast") }
            let available = try FileSystemSpace(of: path).available
            guard available > 0 else { return }
            let failure = posix_fallocate(descriptor, status.st_size, off_t(available))
            guard failure == 0 || failure == ENOSPC else { throw SwiftletError.system("fill \(path)", errno: failure) }
        }
    }

    func makeRoom() { unlink(ballast) }
}
