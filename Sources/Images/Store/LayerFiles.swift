import Concurrency
import Errors
import Foundation

/// What is done to the files of layers. Each call blocks, and none runs within a transaction of the database.
struct LayerFiles: Sendable {
    /// Puts a complete file in its place; durable when it returns.
    var publish: @Sendable (_ temporary: String, _ path: String) throws -> Void
    /// Deletes a file; one that is gone already is no error.
    var delete: @Sendable (_ path: String) throws -> Void

    static let disk = LayerFiles(
        publish: { temporary, path in
            guard rename(temporary, path) == 0 else { throw SwiftletError.system("rename \(temporary) to \(path)") }
            try syncDirectory((path as NSString).deletingLastPathComponent)
        },
        delete: { path in
            guard unlink(path) == 0 || errno == ENOENT else { throw SwiftletError.system("delete \(path)") }
        })

    private static func syncDirectory(_ path: String) throws {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw SwiftletError.system("open \(path)") }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw SwiftletError.system("sync \(path)") }
    }
}

extension BlockingPool {
    /// Deletes a file that is of no use any more; a start deletes what is left of them.
    func discard(_ path: String) async {
        _ = try? await run("delete \(path)") { _ in unlink(path) }
    }
}
