import Errors
import Foundation
import Runtime
import State
import Synchronization

/// The layers on disk. Each is made once, under a temporary name, and renamed when it is complete.
struct LayerStore: Sendable {
    /// Holds a layer against collection while an image that needs it is being put together.
    final class Holds: Sendable {
        private let counts = Mutex<[String: Int]>([:])

        func take(_ diffIDs: [String]) {
            counts.withLock { counts in for id in diffIDs { counts[id, default: 0] += 1 } }
        }

        func release(_ diffIDs: [String]) {
            counts.withLock { counts in
                for id in diffIDs {
                    let left = (counts[id] ?? 1) - 1
                    counts[id] = left > 0 ? left : nil
                }
            }
        }

        func contains(_ diffID: String) -> Bool {
            counts.withLock { $0[diffID] != nil }
        }
    }

    let database: StateDatabase
    let directory: String
    let partialDirectory: String
    let converter: LayerConverter
    let work: BlockingWork
    let holds = Holds()

    init(root: String, database: StateDatabase, limits: LayerLimits, work: BlockingWork) throws {
        self.database = database
        directory = "\(root)/layers"
        partialDirectory = "\(root)/partial"
        converter = LayerConverter(limits: limits)
        self.work = work
        for path in [directory, partialDirectory] {
            do {
                try FileManager.default.createDirectory(
                    atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
            } catch { throw SwiftletError.wrap(error, "image store: make \(path)") }
        }
    }

    /// A name in the directory of unfinished files that nobody has used.
    func partialPath(_ what: String) -> String {
        "\(partialDirectory)/\(what)-\(UUID().uuidString)"
    }

    func path(of layer: LayerRecord) -> String {
        "\(directory)/\(layer.diffID.dropFirst("sha256:".count)).\(layer.filesystem)"
    }

    func image(of layer: LayerRecord) -> LayerImage {
        LayerImage(
            path: path(of: layer), serial: String(layer.diffID.dropFirst("sha256:".count).prefix(20)), filesystem: layer.filesystem,
            sizeBytes: UInt64(layer.sizeBytes))
    }

    /// Converts `blob` and puts the layer in its place. The caller holds `diffID`.
    ///
    /// - Parameter name: the layer in messages.
    /// - Throws: `SwiftletError(.dataLoss)` when the tar in it is not the one `diffID` stands for.
    func add(_ blob: BlobSource, compression: Compression?, diffID: Digest, name: String) async throws {
        let temporary = partialPath("layer")
        do {
            let result = try await work.run { isCancelled in
                do {
                    return try converter.convert(blob, compression: compression, to: temporary, isCancelled: isCancelled)
                } catch { throw SwiftletError.wrap(error, name) }
            }
            guard result.diffID == diffID else {
                throw SwiftletError(
                    .dataLoss, "\(name): the uncompressed tar has the digest \(result.diffID), the image's configuration says \(diffID)")
            }
            let record = LayerRecord(
                diffID: diffID.description, filesystem: LayerConverter.filesystem, sizeBytes: Int64(result.sizeBytes),
                entries: Int64(result.entries))
            let final = path(of: record)
            try await uncancelled {
                try await database.addLayer(record) {
                    guard rename(temporary, final) == 0 else { throw SwiftletError.system("\(name): rename to \(final)") }
                    try syncDirectory()
                }
            }
        } catch {
            unlink(temporary)
            throw error
        }
    }

    /// Deletes what no image needs. Not stopped by cancellation.
    func collect() async throws {
        try await uncancelled {
            try await database.collectImages(isHeld: holds.contains) { layer in
                guard unlink(path(of: layer)) == 0 || errno == ENOENT else { throw SwiftletError.system("delete \(path(of: layer))") }
            }
        }
    }

    /// After a start: unfinished files go, files without a record go, records without a file go with their images.
    ///
    /// - Returns: ids of images lost because somebody deleted their layers.
    func recover() async throws -> [String] {
        let lost = try await database.forgetLostLayers { layer in
            var status = stat()
            return stat(path(of: layer), &status) == 0 && status.st_size == layer.sizeBytes
        }
        try await collect()
        for name in try entries(partialDirectory) { unlink("\(partialDirectory)/\(name)") }
        for name in try entries(directory) {
            let hex = name.prefix { $0 != "." }
            if try await database.layer(diffID: "sha256:\(hex)") == nil { unlink("\(directory)/\(name)") }
        }
        return lost
    }

    /// Bytes and files on disk.
    func usage() throws -> (bytes: UInt64, inodes: UInt64) {
        var bytes: UInt64 = 0
        var inodes: UInt64 = 0
        for folder in [directory, partialDirectory] {
            for name in try entries(folder) {
                var status = stat()
                // A file may be gone by now.
                guard lstat("\(folder)/\(name)", &status) == 0 else { continue }
                bytes += UInt64(status.st_blocks) * 512
                inodes += 1
            }
        }
        return (bytes, inodes)
    }

    private func entries(_ path: String) throws -> [String] {
        do { return try FileManager.default.contentsOfDirectory(atPath: path) } catch {
            throw SwiftletError.wrap(error, "image store: list \(path)")
        }
    }

    private func syncDirectory() throws {
        let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw SwiftletError.system("open \(directory)") }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw SwiftletError.system("sync \(directory)") }
    }
}
