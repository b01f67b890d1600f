import Concurrency
import Errors
import Foundation
import Linux
import Runtime
import State

/// The layers and disks in files. Each is made once, under a temporary name, and renamed when it is complete.
struct LayerStore: Sendable {
    let database: StateDatabase
    let directory: String
    let partialDirectory: String
    private let access: LayerAccess
    let converter: LayerConverter
    let inspector: DiskInspector
    let work: BlockingPool
    let files: LayerFiles
    let claims = LayerClaims()

    /// - Parameter group: whose members read layers, beside root; nil: root alone.
    init(
        root: String, group: gid_t?, database: StateDatabase, limits: LayerLimits, inspector: DiskInspector, work: BlockingPool,
        files: LayerFiles = .disk
    ) async throws {
        self.database = database
        directory = "\(root)/layers"
        partialDirectory = "\(root)/partial"
        converter = LayerConverter(limits: limits)
        self.inspector = inspector
        self.work = work
        self.files = files
        let access = LayerAccess(group: group)
        self.access = access
        let (directory, partialDirectory) = (self.directory, self.partialDirectory)
        try await work.run("make \(root)") { _ in
            do {
                for path in [directory, partialDirectory] {
                    try FileManager.default.createDirectory(
                        atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
                }
                for path in [root, directory] { try access.open(directory: path) }
                guard chmod(partialDirectory, 0o700) == 0 else { throw SwiftletError.system("set the mode of \(partialDirectory)") }
                // What earlier releases made is readable by everybody.
                for name in try KernelFile.names(in: directory) { try access.open(file: "\(directory)/\(name)") }
            } catch { throw SwiftletError.wrap(error, "image store: make \(root)") }
        }
    }

    /// A name in the directory of unfinished files that nobody has used.
    func partialPath(_ what: String) -> String {
        "\(partialDirectory)/\(what)-\(UUID().uuidString)"
    }

    func path(of layer: LayerRecord) -> String {
        "\(directory)/\(name(of: layer))"
    }

    private func name(of layer: LayerRecord) -> String {
        "\(layer.diffID.dropFirst("sha256:".count)).\(layer.filesystem)"
    }

    /// The file of a layer whose record may be damaged, as far as its name can be told: by the digest alone, which of several it is cannot.
    private func names(of layer: StoredLayer) -> [String] {
        if case .success(let record) = layer.record { return [name(of: record)] }
        guard let digest = try? Digest(layer.diffID) else { return [] }
        return ([LayerConverter.filesystem] + [DiskImage.Format.raw, .qcow2].map(\.rawValue)).map { "\(digest.hex).\($0)" }
    }

    func image(of layer: LayerRecord) -> LayerImage {
        LayerImage(
            path: path(of: layer), serial: String(layer.diffID.dropFirst("sha256:".count).prefix(20)), filesystem: layer.filesystem,
            sizeBytes: UInt64(layer.sizeBytes))
    }

    /// The layer if it is here. The caller holds `diffID`, so that it stays.
    func find(_ diffID: Digest) async throws -> LayerRecord? {
        await claims.settled(diffID.description)
        return try await database.layer(diffID: diffID.description)
    }

    /// Converts `blob` and puts the layer in its place. The caller holds `diffID` and has not found it.
    ///
    /// - Parameter name: the layer in messages.
    /// - Throws: `SwiftletError(.dataLoss)` when the tar in it is not the one `diffID` stands for.
    func add(_ blob: BlobSource, compression: Compression?, diffID: Digest, name: String) async throws {
        let temporary = partialPath("layer")
        do {
            let result = try await work.run(name) { call in
                try converter.convert(blob, compression: compression, to: temporary, isCancelled: { call.isCancelled })
            }
            guard result.diffID == diffID else {
                throw SwiftletError(
                    .dataLoss, "the uncompressed tar has the digest \(result.diffID), the image's configuration says \(diffID)")
            }
            let record = LayerRecord(
                diffID: diffID.description, filesystem: LayerConverter.filesystem, sizeBytes: Int64(result.sizeBytes),
                entries: Int64(result.entries))
            try await uncancelled { try await publish(record, temporary) }
        } catch {
            await work.discard(temporary)
            throw SwiftletError.wrap(error, name)
        }
    }

    /// Makes a layer whose digest nobody has told. The caller holds it from then on, and releases it.
    func addUnnamed(_ content: LayerConverter.Content, name: String) async throws -> Digest {
        let temporary = partialPath("layer")
        do {
            let result = try await work.run(name) { call in
                switch content {
                case .tar(let blob, let compression):
                    try converter.convert(blob, compression: compression, to: temporary, isCancelled: { call.isCancelled })
                case .file(let blob, let file, let digest): try converter.wrap(blob, name: file, digest: digest, to: temporary)
                }
            }
            let diffID = result.diffID.description
            claims.hold([diffID])
            do {
                await claims.settled(diffID)
                let record = LayerRecord(
                    diffID: diffID, filesystem: LayerConverter.filesystem, sizeBytes: Int64(result.sizeBytes),
                    entries: Int64(result.entries))
                try await uncancelled { try await publish(record, temporary) }
                return result.diffID
            } catch {
                claims.release([diffID])
                throw error
            }
        } catch {
            await work.discard(temporary)
            throw SwiftletError.wrap(error, name)
        }
    }

    /// Makes the fix-up layer of a stack, if it needs one. The caller holds its layers and `id`.
    ///
    /// - Parameter layers: lowest first.
    func addFixup(_ id: Digest, of layers: [LayerRecord]) async throws -> LayerRecord? {
        let temporary = partialPath("fixup")
        let paths = layers.map(path)
        let stacked = stacked(layers)
        do {
            let result = try await work.run("fix-up layer") { call in
                try FixupLayer.make(
                    of: paths, stacked: stacked, at: temporary, limits: converter.limits, isCancelled: { call.isCancelled })
            }
            guard let result else { return nil }
            let record = LayerRecord(
                diffID: id.description, filesystem: LayerConverter.filesystem, sizeBytes: Int64(result.sizeBytes),
                entries: Int64(result.entries))
            try await uncancelled { try await publish(record, temporary) }
            return record
        } catch {
            await work.discard(temporary)
            throw error
        }
    }

    /// The places of those that a stack is made of. The topmost of equal layers covers the others; empty ones show nothing. Each layer
    /// costs the VM a disk.
    func stacked(_ layers: [LayerRecord]) -> [Int] {
        var seen: Set<String> = []
        let kept = layers.indices.reversed().filter { layers[$0].entries > 0 && seen.insert(layers[$0].diffID).inserted }
        return kept.isEmpty && !layers.isEmpty ? [0] : kept.reversed()
    }

    func publish(_ layer: LayerRecord, _ temporary: String) async throws {
        // The same layer may have come in another compression meanwhile.
        guard try await database.beginPublishing(layer) else { return await work.discard(temporary) }
        let final = path(of: layer)
        try await work.run("publish \(final)") { _ in
            try access.open(file: temporary)
            try files.publish(temporary, final)
        }
        try await database.endPublishing(diffID: layer.diffID)
    }

    /// Deletes what no image needs and nobody holds. Not stopped by cancellation.
    ///
    /// What cannot be deleted stays marked, and is tried again by the next call.
    func collect() async throws {
        try await uncancelled {
            let unused = try await database.unusedLayers().map(\.diffID)
            let claimed = claims.claimForDeletion(unused)
            guard !claimed.isEmpty else { return }
            defer { claims.endDeletion(claimed) }
            let layers = try await database.beginDeleting(diffIDs: claimed)
            let outcome = try await work.run("delete layers") { _ in delete(layers) }
            try await database.endDeleting(diffIDs: outcome.deleted)
            if let failure = outcome.failure { throw failure }
        }
    }

    private func delete(_ layers: [StoredLayer]) -> (deleted: [String], failure: (any Error)?) {
        var deleted: [String] = []
        var failure: (any Error)?
        for layer in layers {
            do {
                for name in names(of: layer) { try files.delete("\(directory)/\(name)") }
                deleted.append(layer.diffID)
            } catch { failure = error }
        }
        return (deleted, failure)
    }

    /// After a start: records without a file go with their images, layers that were being published or deleted are marked for
    /// `collect`, unfinished files and files without a record go. A damaged record keeps its file: containers may use it.
    ///
    /// Files of layers that a state without any layer finds are not deleted but set aside, until a start that finds layers: the state was
    /// lost, and whoever puts a copy of it in place puts them back.
    ///
    /// - Returns: ids of images lost because somebody deleted their layers; how many files were set aside.
    func recover() async throws -> (lost: [String], setAside: Int) {
        try await database.abandonPublishing()
        try await database.deleteHiddenImages()
        let known = try await database.layers()
        let ready = known.compactMap { try? $0.record.get() }.filter { $0.state == .ready }
        let missing = try await work.run("look for layers") { _ in ready.filter { !isPresent($0) }.map(\.diffID) }
        let lost = try await database.forgetLayers(diffIDs: missing)
        let kept = Set(try await database.layers().flatMap { names(of: $0) })
        try await work.run("clean \(directory)") { _ in
            for name in try entries(partialDirectory) { unlink("\(partialDirectory)/\(name)") }
            for name in try entries(directory) where !kept.contains(name) && !known.isEmpty { unlink("\(directory)/\(name)") }
        }
        return (lost, try await setAside(isLost: known.isEmpty))
    }

    /// Where files of layers are that a lost state knew.
    var lostDirectory: String { directory + ".lost" }

    private func setAside(isLost: Bool) async throws -> Int {
        let lostDirectory = lostDirectory
        return try await work.run("set layers aside in \(lostDirectory)") { _ in
            let files = FileManager.default
            guard isLost else {
                if files.fileExists(atPath: lostDirectory) { try files.removeItem(atPath: lostDirectory) }
                return 0
            }
            let names = try entries(directory)
            guard !names.isEmpty else { return 0 }
            try files.createDirectory(atPath: lostDirectory, withIntermediateDirectories: true)
            for name in names {
                guard rename("\(directory)/\(name)", "\(lostDirectory)/\(name)") == 0 else {
                    throw SwiftletError.system("move \(directory)/\(name) to \(lostDirectory)")
                }
            }
            return names.count
        }
    }

    private func isPresent(_ layer: LayerRecord) -> Bool {
        var status = stat()
        return stat(path(of: layer), &status) == 0 && status.st_size == layer.sizeBytes
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
}
