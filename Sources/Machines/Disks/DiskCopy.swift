import Concurrency
import Errors
import Glibc
import Linux
import Synchronization

/// Writes an image onto a block device or into a file, once, as a disk that outlives its machine.
///
/// The first MiB, which holds the partition table and what a BIOS starts, is blank until all else is written and on the disk: a copy that
/// was interrupted, at whatever moment and by whatever, is told from a whole one by the disk alone, on whichever node it is looked at.
public struct DiskCopy: Sendable {
    /// What is at the beginning of a disk.
    public enum Content: Sendable, Equatable {
        /// Nothing, or an image that was not copied to its end.
        case blank
        /// A boot sector, which a disk with a partition table has as well.
        case bootable
        /// Something else.
        case foreign
    }

    /// Bytes that are written last.
    public static let head = 1 << 20

    public var program: String
    /// That qemu-img runs in; nil: where this process does.
    public var cgroup: ProcessCgroup?
    /// For one run of qemu-img, however large the image.
    public var deadline: Duration

    public init(program: String = "/usr/bin/qemu-img", cgroup: ProcessCgroup? = nil, deadline: Duration = .seconds(6 * 3600)) {
        self.program = program
        self.cgroup = cgroup
        self.deadline = deadline
    }

    // MARK: Disks

    /// What a disk holds, and its size in bytes. Blocks.
    ///
    /// - Throws: `failedPrecondition` for a block device that is mounted on the node or otherwise taken there.
    public static func look(at path: String) throws -> (content: Content, bytes: UInt64) {
        let file = try openDisk(path, O_RDONLY)
        defer { letGo(file) }
        return (content(of: try readHead(file, path)), try size(of: file, path))
    }

    /// O_EXCL: a block device that has a mount, or belongs to another one, is busy (open(2)).
    private static func openDisk(_ path: String, _ access: Int32) throws -> Int32 {
        var status = stat()
        guard lstat(path, &status) == 0 else { throw SwiftletError.system("disk \(path)") }
        let exclusive = status.st_mode & S_IFMT == S_IFBLK ? O_EXCL : 0
        let file = open(path, access | exclusive | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard file >= 0 else {
            guard errno == EBUSY else { throw SwiftletError.system("open disk \(path)") }
            throw SwiftletError(.failedPrecondition, "disk \(path) is mounted on the node, or in use there")
        }
        return file
    }

    /// Closes a disk that the next one opens exclusively: no program that is just being started has it open any more.
    private static func letGo(_ file: Int32) { ForkGate.hold { _ = close(file) } }

    private static func size(of file: Int32, _ path: String) throws -> UInt64 {
        let end = lseek(file, 0, SEEK_END)
        guard end >= 0 else { throw SwiftletError.system("size of disk \(path)") }
        return UInt64(end)
    }

    private static func readHead(_ file: Int32, _ path: String) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: head)
        var have = 0
        while have < head {
            let count = bytes.withUnsafeMutableBytes { pread(file, $0.baseAddress.map { $0 + have }, head - have, off_t(have)) }
            guard count >= 0 else {
                guard errno == EINTR else { throw SwiftletError.system("read disk \(path)") }
                continue
            }
            if count == 0 { break }
            have += count
        }
        return Array(bytes[..<have])
    }

    static func content(of head: [UInt8]) -> Content {
        if head.allSatisfy({ $0 == 0 }) { return .blank }
        // The signature of a boot sector, a master boot record, and the protective one of GPT.
        return head.count >= 512 && head[510] == 0x55 && head[511] == 0xAA ? .bootable : .foreign
    }

    private static func write(_ bytes: [UInt8], to file: Int32, _ path: String) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { pwrite(file, $0.baseAddress.map { $0 + sent }, bytes.count - sent, off_t(sent)) }
            guard count > 0 else {
                guard errno == EINTR else { throw SwiftletError.system("write disk \(path)") }
                continue
            }
            sent += count
        }
        guard fsync(file) == 0 else { throw SwiftletError.system("flush disk \(path)") }
    }

    // MARK: The copy

    /// Writes the image onto the disk, whatever is there. When it fails, or is cancelled, the disk's first MiB is blank.
    ///
    /// - Parameters:
    ///   - path: a block device or a file that the user can open, and others cannot replace. A file grows to the image's size.
    ///   - head: a path for the image's first MiB meanwhile, in a directory that the user can pass through.
    ///   - user: whom qemu-img runs as. No process of this user is left when this ends: it is nobody else's.
    /// - Throws: `failedPrecondition` with both sizes for a disk that is too small, for an image without a boot sector, and for a device
    ///   that is in use on the node; `resourceExhausted`; `cancelled`.
    public func write(_ image: OverlayDisk.Base, to path: String, head: String, user: MachineUser) async throws {
        try MachineSpec.checkPath(path)
        try MachineSpec.checkPath(image.file.path)
        let run = Run()
        do {
            try await withTaskCancellationHandler {
                do {
                    try await perform(image, path, head, user)
                } catch {
                    await Self.endProcesses(of: user)
                    throw error
                }
            } onCancel: {
                // What is being started is not the user's yet.
                let killer = Task {
                    repeat {
                        await Self.endProcesses(of: user)
                        try? await Task.sleep(for: .milliseconds(50))
                    } while !run.isOver.withLock { $0 }
                }
                run.killer.withLock { $0 = killer }
            }
        } catch {
            await run.end()
            throw error
        }
        await run.end()
    }

    private final class Run: Sendable {
        let isOver = Mutex(false)
        let killer = Mutex<Task<Void, Never>?>(nil)

        /// The user may be another pod's from then on: nobody kills its processes any more.
        func end() async {
            isOver.withLock { $0 = true }
            await killer.withLock { $0 }?.value
        }
    }

    private func perform(_ image: OverlayDisk.Base, _ path: String, _ head: String, _ user: MachineUser) async throws {
        let first = try await headBytes(of: image, at: head, user)
        guard Self.content(of: first) == .bootable else {
            throw SwiftletError(
                .failedPrecondition, "image \(image.file.path) has no boot sector or partition table: it cannot be copied to a disk")
        }
        let target = try await OwnThread.run { try Target(path, size: image.virtualSize) }
        do {
            try await fill(target, image, first, path, user)
        } catch {
            await OwnThread.answer { target.close() }
            throw error
        }
        // Not when the last reference goes: the device is the next one's as soon as this has ended.
        await OwnThread.answer { target.close() }
    }

    private func fill(_ target: Target, _ image: OverlayDisk.Base, _ first: [UInt8], _ path: String, _ user: MachineUser) async throws {
        try Task.checkCancellation()
        if image.virtualSize > UInt64(Self.head) {
            let source = Self.source(image, from: Self.head, size: nil)
            let options = "driver=raw,offset=\(Self.head),file.driver=\(target.driver),file.filename=\(path.replacing(",", with: ",,"))"
            try await run(["convert", "-q", "-n", "--target-image-opts", source, options], user, "copy to disk \(path)")
        }
        try Task.checkCancellation()
        try await OwnThread.run { try target.finish(first) }
    }

    /// The disk, held for the copy: a device cannot be mounted on the node meanwhile.
    private final class Target: Sendable {
        let path: String
        let driver: String
        let descriptor: Int32

        init(_ path: String, size: UInt64) throws {
            self.path = path
            descriptor = try DiskCopy.openDisk(path, O_RDWR)
            do {
                var status = stat()
                guard fstat(descriptor, &status) == 0 else { throw SwiftletError.system("disk \(path)") }
                driver = status.st_mode & S_IFMT == S_IFBLK ? "host_device" : "file"
                let bytes = try DiskCopy.size(of: descriptor, path)
                if status.st_mode & S_IFMT == S_IFREG, bytes < size {
                    guard ftruncate(descriptor, off_t(size)) == 0 else { throw SwiftletError.system("grow disk \(path)") }
                } else if bytes < size {
                    throw SwiftletError(
                        .failedPrecondition, "disk \(path) has \(bytes) bytes; its image needs \(size)")
                }
                // Before anything else is written over.
                let before = try DiskCopy.readHead(descriptor, path)
                if DiskCopy.content(of: before) != .blank {
                    try DiskCopy.write([UInt8](repeating: 0, count: before.count), to: descriptor, path)
                }
            } catch {
                DiskCopy.letGo(descriptor)
                throw error
            }
        }

        func close() {
            // The last one to close a device waits until what was written is on it, which nobody who starts a program waits for.
            fsync(descriptor)
            DiskCopy.letGo(descriptor)
        }

        /// What qemu-img wrote is on the disk before the first MiB is.
        func finish(_ head: [UInt8]) throws {
            guard fsync(descriptor) == 0 else { throw SwiftletError.system("flush disk \(path)") }
            try DiskCopy.write(head, to: descriptor, path)
        }
    }

    private func headBytes(of image: OverlayDisk.Base, at path: String, _ user: MachineUser) async throws -> [UInt8] {
        defer { unlink(path) }
        try await OwnThread.run {
            guard unlink(path) == 0 || errno == ENOENT else { throw SwiftletError.system("remove \(path)") }
            let file = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0o600)
            guard file >= 0 else { throw SwiftletError.system("create \(path)") }
            defer { close(file) }
            guard fchown(file, user.uid, user.gid) == 0 else { throw SwiftletError.system("chown \(path)") }
        }
        let size = min(UInt64(Self.head), image.virtualSize)
        let source = Self.source(image, from: 0, size: size)
        try await run(["convert", "-q", "-O", "raw", source, path], user, "read image \(image.file.path)")
        return try await OwnThread.run {
            let file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
            guard file >= 0 else { throw SwiftletError.system("open \(path)") }
            defer { close(file) }
            return try Self.readHead(file, path)
        }
    }

    /// A part of the image in qemu-img's words. Whatever its header says it lies on stays closed.
    private static func source(_ image: OverlayDisk.Base, from offset: Int, size: UInt64?) -> String {
        let path = OverlayDisk.escaped(image.file.path)
        let file = #"{"driver":"file","filename":"\#(path)"}"#
        let disk = image.file.format == .qcow2 ? #"{"driver":"qcow2","backing":null,"file":\#(file)}"# : file
        return #"json:{"driver":"raw","offset":\#(offset)\#(size.map { #","size":\#($0)"# } ?? ""),"file":\#(disk)}"#
    }

    private func run(_ arguments: [String], _ user: MachineUser, _ step: String) async throws {
        try Task.checkCancellation()
        // 64 threads write at once, with 8 MiB of stack each.
        let result = try await UnprivilegedProgram(
            path: program, user: user, addressSpace: 2 << 30, processorTime: nil, cgroup: cgroup, deadline: deadline
        ).spawn(arguments).run()
        try Task.checkCancellation()
        guard result.succeeded else {
            let said = result.errorText.prefix(1024)
            throw SwiftletError(
                said.contains("No space left") ? .resourceExhausted : .internal,
                "\(step): qemu-img ended with status \(result.status): \(said.debugDescription)")
        }
    }

    private static func endProcesses(of user: MachineUser) async {
        await OwnThread.answer {
            let left = ProcessTable.running(as: user.uid...user.uid).map(\.process)
            for process in left { process.kill() }
            for process in left { _ = process.waitForExit(.seconds(2)) }
        }
    }
}
