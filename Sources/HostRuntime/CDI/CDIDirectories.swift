import Errors
import Glibc
import Linux
import Runtime

/// The directories with the administrator's CDI files. They are read anew for each container: who drives devices changes them at any time.
struct CDIDirectories: Sendable {
    /// A file of a later one counts before those of an earlier one.
    var paths: [String]
    /// Whose alone files and directories have to be: what they say is done as root.
    var owner: uid_t = 0

    /// Of a file. Those of a node with eight GPUs that are partitioned have a few hundred KiB.
    static let largest = 4 << 20
    static let mostFiles = 1024
    /// Of all files.
    private static let mostBytes = 64 << 20

    /// A device in a file.
    private struct Found {
        var file: String
        var document: CDIDocument
        var device: CDIDocument.Device
    }

    /// What the files say, by directory, latest first; and what could not be read.
    private struct Contents {
        var directories: [[(file: String, document: CDIDocument)]] = []
        var problems: [String] = []
    }

    /// What a container is given with devices: for each, what its file says for all of its devices, once, then what it says for this one.
    /// Blocks.
    ///
    /// - Throws: `.notFound` for an unknown device, naming it, the directories and what is wrong in them; `.failedPrecondition` for one that
    ///   two files of a directory have; `.unimplemented` naming what cannot be given.
    func edits(for devices: [CDIDevice]) throws -> CDIEdits {
        let contents = read()
        var edits = CDIEdits()
        var files: Set<String> = []
        for device in devices {
            let found = try find(device, contents)
            var own = found.device.edits
            if files.insert(found.file).inserted {
                own = found.document.edits
                own.append(found.device.edits)
            }
            guard !own.hasIntelRdt else {
                throw SwiftletError(
                    .unimplemented, "config.CDI_devices \(quoted(device.qualified)): \(found.file): intelRdt cannot be given to containers")
            }
            for hook in own.hooks {
                do {
                    try check(hook)
                } catch {
                    throw SwiftletError.wrap(error, "config.CDI_devices \(quoted(device.qualified)): \(found.file)")
                }
            }
            edits.append(own)
        }
        return edits
    }

    private func find(_ device: CDIDevice, _ contents: Contents) throws -> Found {
        for files in contents.directories {
            let found = files.compactMap { file, document -> Found? in
                guard document.kind == device.kind else { return nil }
                return document.devices.first { $0.name == device.name }.map { Found(file: file, document: document, device: $0) }
            }
            guard found.count <= 1 else {
                throw SwiftletError(
                    .failedPrecondition,
                    "config.CDI_devices \(quoted(device.qualified)) is in more than one file: \(found.map(\.file).joined(separator: ", "))")
            }
            if let found = found.first { return found }
        }
        let problems = contents.problems.prefix(8).map { "; \($0)" }.joined()
        throw SwiftletError(
            .notFound,
            "config.CDI_devices \(quoted(device.qualified)): no file of \(paths.joined(separator: ", ")) has this device\(problems)")
    }

    // MARK: Files

    private func read() -> Contents {
        var contents = Contents()
        var bytesLeft = Self.mostBytes
        for path in paths.reversed() {
            do {
                guard let names = try names(in: path) else { continue }
                var files: [(file: String, document: CDIDocument)] = []
                for name in names {
                    let file = "\(path)/\(name)"
                    do {
                        let bytes = try content(of: file, limit: min(Self.largest, bytesLeft))
                        bytesLeft -= bytes.count
                        files.append((file, try CDIDocument.read(bytes, isYAML: !name.hasSuffix(".json"))))
                    } catch {
                        contents.problems.append("\(file) is not read: \(error)")
                    }
                }
                contents.directories.append(files)
            } catch {
                contents.problems.append("\(path) is not read: \(error)")
            }
        }
        return contents
    }

    /// - Returns: nil for a directory that is not there.
    private func names(in path: String) throws -> [String]? {
        var status = stat()
        guard stat(path, &status) == 0 else {
            guard errno == ENOENT else { throw SwiftletError.system("look at it") }
            return nil
        }
        guard status.st_mode & S_IFMT == S_IFDIR else { throw SwiftletError(.failedPrecondition, "it is no directory") }
        try requireOwner(status)
        let names = try KernelFile.names(in: path).filter { $0.hasSuffix(".json") || $0.hasSuffix(".yaml") }.sorted()
        guard names.count <= Self.mostFiles else {
            throw SwiftletError(.resourceExhausted, "it has \(names.count) files, more than \(Self.mostFiles)")
        }
        return names
    }

    private func content(of path: String, limit: Int) throws -> [UInt8] {
        // Not blocking: it may be a FIFO.
        let file = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
        guard file >= 0 else { throw SwiftletError.system("open it") }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0 else { throw SwiftletError.system("look at it") }
        guard status.st_mode & S_IFMT == S_IFREG else { throw SwiftletError(.failedPrecondition, "it is no regular file") }
        try requireOwner(status)
        guard status.st_size <= limit else {
            throw SwiftletError(.resourceExhausted, "it has \(status.st_size) bytes, more than the \(limit) that are left for it")
        }
        return try [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { buffer, count in
            while count < buffer.count {
                let read = pread(file, buffer.baseAddress?.advanced(by: count), buffer.count - count, off_t(count))
                guard read >= 0 else { throw SwiftletError.system("read it") }
                guard read > 0 else { return }
                count += read
            }
        }
    }

    private func requireOwner(_ status: stat) throws {
        guard status.st_uid == owner, status.st_mode & (S_IWGRP | S_IWOTH) == 0 else {
            throw SwiftletError(.permissionDenied, "it must be root's, and nobody else's to write")
        }
    }

    /// A program that runs on the node; that of startContainer is the container's.
    private func check(_ hook: CDIEdits.Hook) throws {
        guard hook.name != .startContainer else { return }
        var status = stat()
        guard stat(hook.path, &status) == 0 else { throw SwiftletError.system("hook \(hook.path)") }
        guard status.st_mode & S_IFMT == S_IFREG, status.st_mode & S_IXUSR != 0 else {
            throw SwiftletError(.failedPrecondition, "hook \(hook.path) is no program")
        }
        do { try requireOwner(status) } catch { throw SwiftletError.wrap(error, "hook \(hook.path)") }
    }
}
