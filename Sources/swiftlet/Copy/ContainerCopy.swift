import CLinux
import Concurrency
import Errors
import Glibc
import NIOCore
import StreamClient

/// Copies files to and from a container by its own tar.
struct ContainerCopy: Sendable {
    let exec: ContainerExec
    private let descriptors: SessionDescriptors

    init(_ exec: ContainerExec) throws { (self.exec, descriptors) = (exec, try SessionDescriptors()) }

    // MARK: From the container

    /// - Parameter local: a directory that gets the copy, or the copy's own path.
    /// - Returns: what was left out.
    func receive(_ path: String, to local: String) async throws -> [String] {
        let source = SplitPath(path)
        let extraction = try Self.extraction(of: source.name, to: local)
        let (reading, writing) = try Self.pipe()
        let unpacking = Task {
            try await OwnThread.run {
                defer { close(reading) }
                return try extraction.run(from: reading)
            }
        }
        let sending: Result<Void, any Error>
        do {
            sending = .success(try await send(source) { [descriptors] in try await descriptors.write($0.readableBytesView, to: writing) })
        } catch {
            sending = .failure(error)
        }
        close(writing)
        let unpacked = await unpacking.result
        // Of an archive that is not taken any more, the reason is on the other side.
        if case .failure(is SessionDescriptors.ReaderGone) = sending { return try unpacked.get() }
        try sending.get()
        return try unpacked.get()
    }

    /// The archive as it comes.
    func receiveArchive(of path: String) async throws {
        try await send(SplitPath(path)) { [descriptors] in try await descriptors.write($0.readableBytesView, to: STDOUT_FILENO) }
    }

    private func send(_ source: SplitPath, to output: @escaping @Sendable (ByteBuffer) async throws -> Void) async throws {
        let name = source.name == "." ? "." : "./" + source.name
        try await tar(["-c", "-f", "-", "-C", source.directory, name], output: output)
    }

    static func extraction(of base: String, to local: String) throws -> TarExtraction {
        var (status, local) = (stat(), local)
        if stat(local, &status) == 0 {
            switch status.st_mode & S_IFMT {
            case S_IFDIR: return TarExtraction(base: base, directory: local, name: base == "." ? nil : base)
            // The copy takes the file's place, not that of a link to it.
            case S_IFREG: local = try Self.real(local)
            default: throw SwiftletError(.invalidArgument, "\(local) is neither a file nor a directory")
            }
        }
        let place = SplitPath(local)
        guard !place.endsWithSlash, place.name != "." else { throw SwiftletError(.notFound, "\(local) is no directory") }
        return TarExtraction(base: base, directory: place.directory, name: place.name)
    }

    // MARK: To the container

    /// - Parameter path: a directory that gets the copy, or the copy's own path.
    /// - Returns: what was left out.
    func send(_ local: String, to path: String) async throws -> [String] {
        var status = stat()
        guard lstat(local, &status) == 0 else { throw SwiftletError.system("read \(local)") }
        let (source, target) = (SplitPath(local), SplitPath(path))
        let isContents = source.name == "."
        let directory: String
        let name: String?
        if try await isDirectory(path) {
            (directory, name) = (path, isContents ? nil : source.name)
        } else {
            guard !target.endsWithSlash, target.name != "." else {
                throw SwiftletError(.notFound, "\(path) is no directory in the container")
            }
            (directory, name) = (target.directory, target.name)
        }
        let creation = TarCreation(source: isContents ? try Self.real(local) : Self.withoutSlash(local), name: name)
        let (reading, writing) = try Self.pipe()
        let packing = Task {
            try await OwnThread.run {
                defer { close(writing) }
                return try creation.run(to: writing)
            }
        }
        let receiving: Result<Void, any Error>
        do {
            receiving = .success(try await unpack(from: reading, in: directory))
        } catch {
            receiving = .failure(error)
        }
        // Whoever still packs finds nobody to read it.
        close(reading)
        let packed = await packing.result
        // A tar that gets no whole archive has its own words for it; the reason is here.
        if case .failure(let error) = packed, !(error is SessionDescriptors.ReaderGone) { throw error }
        try receiving.get()
        return try packed.get()
    }

    /// The archive on standard input, as it is.
    func sendArchive(to path: String) async throws { try await unpack(from: STDIN_FILENO, in: path) }

    private func unpack(from descriptor: Int32, in directory: String) async throws {
        try await tar(
            ["-x", "-f", "-", "-C", directory],
            input: { [descriptors] input in
                while let bytes = try await descriptors.read(descriptor) { try await input.write(ByteBuffer(bytes: bytes)) }
                try await input.end()
            })
    }

    /// By test(1); a container without it has the copy's own path named.
    private func isDirectory(_ path: String) async throws -> Bool {
        do {
            return try await exec.run(["test", "-d", path]).code == 0
        } catch let error as SwiftletError where error.code != .internal {
            throw error
        } catch {
            return false
        }
    }

    // MARK: Both

    private func tar(
        _ arguments: [String], output: @escaping @Sendable (ByteBuffer) async throws -> Void = { _ in },
        input: (@Sendable (CommandInput) async throws -> Void)? = nil
    ) async throws {
        let outcome: ContainerExec.Outcome
        do {
            outcome = try await exec.run(["tar"] + arguments, output: output, input: input)
        } catch let error as SwiftletError where error.code == .internal {
            throw error.during("cp needs tar in the container")
        }
        guard outcome.code == 0 else {
            let said = outcome.errors.split(whereSeparator: \.isNewline).joined(separator: "; ")
            throw SwiftletError(.internal, "tar in the container has failed with \(outcome.code): \(said)")
        }
    }

    private static func pipe() throws -> (reading: Int32, writing: Int32) {
        var pair: [Int32] = [-1, -1]
        guard pipe2(&pair, O_CLOEXEC) == 0 else { throw SwiftletError.system("pipe") }
        return (pair[0], pair[1])
    }

    private static func withoutSlash(_ path: String) -> String {
        var path = path
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        return path
    }

    /// Contents are those of the directory that a link leads to.
    private static func real(_ path: String) throws -> String {
        guard let real = realpath(path, nil) else { throw SwiftletError.system("read \(path)") }
        defer { free(real) }
        return String(cString: real)
    }
}
