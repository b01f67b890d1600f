import Concurrency
import Errors
import Foundation
import Linux
import Testing

@testable import Machines

/// Images on disks that outlive their machines, by the real qemu-img.
@Suite(.enabled(if: geteuid() == 0, "qemu-img runs as another user"), .serialized, .timeLimit(.minutes(2))) struct DiskCopyTests {
    private let user = MachineUser(uid: 2_001_500_011, gid: 2_001_500_011)
    private let directory = "/tmp/swiftlet-copy-\(UUID().uuidString.prefix(8))"

    private func withDirectory(_ body: () async throws -> Void) async throws {
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o711])
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try await body()
    }

    private static let size = 6 << 20

    /// A boot sector, something behind it, something in the middle and at the end.
    private static let content: [UInt8] = {
        var bytes = [UInt8](repeating: 0, count: size)
        bytes.replaceSubrange(510..<512, with: [0x55, 0xAA])
        for place in [4096, (1 << 20) - 7, (1 << 20) + 13, 3 << 20, size - 9] {
            bytes.replaceSubrange(place..<(place + 9), with: Array("swiftlet!".utf8))
        }
        return bytes
    }()

    private func image(_ format: DiskSpec.Format, _ content: [UInt8] = Self.content) async throws -> OverlayDisk.Base {
        let (raw, path) = ("\(directory)/image.raw", "\(directory)/image")
        try Data(content).write(to: URL(fileURLWithPath: raw))
        try await Spawn("/usr/bin/qemu-img", ["convert", "-f", "raw", "-O", format.rawValue, raw, path]).check()
        unlink(raw)
        return OverlayDisk.Base(file: .init(path: path, format: format), virtualSize: UInt64(content.count))
    }

    private func makeFile(_ name: String, size: Int = 0) throws -> String {
        let path = "\(directory)/\(name)"
        try Data().write(to: URL(fileURLWithPath: path))
        truncate(path, off_t(size))
        chown(path, user.uid, user.gid)
        chmod(path, 0o600)
        return path
    }

    private func bytes(of path: String) throws -> [UInt8] {
        // Of a device as well, which Data(contentsOf:) refuses.
        let file = try #require(FileHandle(forReadingAtPath: path))
        return Array(try file.readToEnd() ?? Data())
    }

    private func expect(_ code: SwiftletError.Code, _ words: String..., body: () async throws -> Void) async {
        await #expect {
            try await body()
        } throws: { error in
            (error as? SwiftletError)?.code == code && words.allSatisfy { "\(error)".contains($0) }
        }
    }

    @Test(arguments: [DiskSpec.Format.qcow2, .raw]) func anImageIsWrittenToADeviceWhole(format: DiskSpec.Format) async throws {
        try await withDirectory {
            let image = try await image(format)
            try await LoopDevice.with(bytes: 8 << 20) { device in
                let node = "\(directory)/node"
                try BlockDeviceNode.create(node, of: device, readOnly: false, owner: user)
                #expect(try DiskCopy.look(at: node) == (.blank, 8 << 20))
                try await DiskCopy().write(image, to: node, head: "\(directory)/head", user: user)
                let look = try DiskCopy.look(at: node)
                #expect(look == (.bootable, 8 << 20))
                #expect(try bytes(of: device) == Self.content + [UInt8](repeating: 0, count: 2 << 20))
                // Written over: nothing is left of what was there.
                try await Spawn("/bin/dd", ["if=/dev/urandom", "of=\(device)", "bs=1M", "count=6", "conv=notrunc"]).check()
                try await DiskCopy().write(image, to: node, head: "\(directory)/head", user: user)
                #expect(try bytes(of: device).prefix(Self.size) == Self.content[...])
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory).sorted() == ["image", "node"])
        }
    }

    /// A program that is being started has copies of all descriptors until it is executed.
    @Test func aDeviceIsFreeAsSoonAsItIsLetGoWhileProgramsAreStarted() async throws {
        try await withDirectory {
            try await LoopDevice.with(bytes: 1 << 20) { device in
                let starts = (0..<4).map { _ in
                    Task { while !Task.isCancelled { _ = try await Spawn("/bin/true").run() } }
                }
                defer { starts.forEach { $0.cancel() } }
                let begin = ContinuousClock.now
                try await OwnThread.run {
                    while begin.duration(to: .now) < .seconds(4) { _ = try DiskCopy.look(at: device) }
                }
            }
        }
    }

    @Test func aFileGrowsToTheImagesSizeAndStaysSparse() async throws {
        try await withDirectory {
            let (image, path) = (try await image(.qcow2), try makeFile("disk.img"))
            try await DiskCopy().write(image, to: path, head: "\(directory)/head", user: user)
            #expect(try bytes(of: path) == Self.content)
            var status = stat()
            #expect(stat(path, &status) == 0 && status.st_blocks * 512 < 2 << 20, "\(status.st_blocks)")
        }
    }

    /// Fails, or hangs, when it is run for the second time: the first MiB is read by then, and nothing of the rest is written.
    ///
    /// - Parameter first: is done the first time.
    private func program(_ second: String, first: String = ":") throws -> String {
        let (path, mark) = ("\(directory)/qemu-img", "\(directory)/marks/once")
        try FileManager.default.createDirectory(atPath: "\(directory)/marks", withIntermediateDirectories: true)
        chmod("\(directory)/marks", 0o777)
        try "#!/bin/sh\nif [ -e \(mark) ]; then \(second); fi\n: >\(mark)\n\(first)\nexec /usr/bin/qemu-img \"$@\"\n".write(
            toFile: path, atomically: true, encoding: .utf8)
        chmod(path, 0o755)
        return path
    }

    @Test func qemuImgRunsInTheControlGroupThatItWasGiven() async throws {
        try await withDirectory {
            let (image, path) = (try await image(.qcow2), try makeFile("disk"))
            let parent = "/swl\(getpid())copy"
            let cgroup = try ProcessCgroup(parent: parent, name: "pod", on: Cgroups.detect())
            let program = try program("exec /usr/bin/qemu-img \"$@\"", first: "cat /proc/self/cgroup >\(directory)/marks/groups")
            let copy = DiskCopy(program: program, cgroup: cgroup)
            // One that is gone.
            await expect(.internal, "status 125", "cgroup.procs") {
                try await copy.write(image, to: path, head: "\(directory)/head", user: user)
            }
            #expect(try bytes(of: path).isEmpty)
            try cgroup.create()
            defer { try? cgroup.remove() }
            try await copy.write(image, to: path, head: "\(directory)/head", user: user)
            #expect(try bytes(of: path) == Self.content)
            let groups = try String(contentsOfFile: "\(directory)/marks/groups", encoding: .utf8).split(separator: "\n")
            #expect(groups.filter { $0.hasSuffix(":\(parent)/pod") }.count == cgroup.directories.count, "\(groups)")
        }
    }

    @Test func anInterruptedCopyLeavesABlankFirstMiBAndBeginsAnew() async throws {
        try await withDirectory {
            let image = try await image(.qcow2)
            let path = try makeFile("disk", size: 8 << 20)
            try Data(Self.content).write(to: URL(fileURLWithPath: path))
            chown(path, user.uid, user.gid)
            #expect(try DiskCopy.look(at: path).content == .bootable)
            let failing = DiskCopy(program: try program("exit 9"))
            await expect(.internal, "status 9") { try await failing.write(image, to: path, head: "\(directory)/head", user: user) }
            #expect(try DiskCopy.look(at: path).content == .blank)
            try await DiskCopy().write(image, to: path, head: "\(directory)/head", user: user)
            #expect(try DiskCopy.look(at: path).content == .bootable)
            #expect(try bytes(of: path) == Self.content)
        }
    }

    @Test func aCopyThatIsCancelledEndsWithItsProcesses() async throws {
        try await withDirectory {
            let (image, path) = (try await image(.qcow2), try makeFile("disk"))
            let hanging = DiskCopy(program: try program("sleep 1000"))
            let (user, directory) = (user, directory)
            let copy = Task { try await hanging.write(image, to: path, head: "\(directory)/head", user: user) }
            let begin = ContinuousClock.now
            while ProcessTable.all(of: [user.uid], where: { $0.contains("1000") }).isEmpty, begin.duration(to: .now) < .seconds(30) {
                try await Task.sleep(for: .milliseconds(10))
            }
            copy.cancel()
            let cancelled = ContinuousClock.now
            await #expect(throws: CancellationError.self) { try await copy.value }
            #expect(cancelled.duration(to: .now) < .seconds(10))
            #expect(ProcessTable.running(as: user.uid...user.uid).isEmpty)
            #expect(try DiskCopy.look(at: path).content == .blank)
        }
    }

    @Test func whatCannotBeADiskIsRefusedBeforeAnythingIsWritten() async throws {
        try await withDirectory {
            let image = try await image(.qcow2)
            try await LoopDevice.with(bytes: 4 << 20) { device in
                let node = "\(directory)/node"
                try BlockDeviceNode.create(node, of: device, readOnly: false, owner: user)
                await expect(.failedPrecondition, "4194304", "6291456") {
                    try await DiskCopy().write(image, to: node, head: "\(directory)/head", user: user)
                }
                try await Spawn("/sbin/mke2fs", ["-q", "-F", device]).check()
                #expect(try DiskCopy.look(at: node).content == .foreign)
                let mounted = "\(directory)/mounted"
                try FileManager.default.createDirectory(atPath: mounted, withIntermediateDirectories: true)
                try await Spawn("/bin/mount", [device, mounted]).check()
                await expect(.failedPrecondition, "mounted") { _ = try DiskCopy.look(at: node) }
                try await Spawn("/bin/umount", [mounted]).check()
            }
            let blank = try await self.image(.raw, [UInt8](repeating: 0, count: 2 << 20))
            let path = try makeFile("disk")
            await expect(.failedPrecondition, "no boot sector") {
                try await DiskCopy().write(blank, to: path, head: "\(directory)/head", user: user)
            }
            #expect(try bytes(of: path).isEmpty)
        }
    }
}

/// A block device on a file of zeroes.
enum LoopDevice {
    static func with(bytes: Int, _ body: (String) async throws -> Void) async throws {
        let file = "/tmp/swiftlet-loop-\(UUID().uuidString.prefix(8))"
        try Data().write(to: URL(fileURLWithPath: file))
        truncate(file, off_t(bytes))
        defer { unlink(file) }
        let device = try await Spawn("/sbin/losetup", ["--show", "-f", file]).check().outputText
            .trimmingCharacters(in: .whitespacesAndNewlines)
        do {
            try await body(device)
        } catch {
            _ = try? await Spawn("/sbin/losetup", ["-d", device]).run()
            throw error
        }
        try await Spawn("/sbin/losetup", ["-d", device]).check()
    }
}
