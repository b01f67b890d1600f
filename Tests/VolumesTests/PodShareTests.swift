import CLinux
import Concurrency
import Errors
import Foundation
import Linux
import Runtime
import Support
import Testing

@testable import Volumes

/// Bind mounts for real, where this is allowed: as root.
@Suite(.enabled(if: geteuid() == 0), .serialized)
final class PodShareTests {
    private let directory = NSTemporaryDirectory() + "share-\(UInt32.random(in: 0 ... .max))"
    private let share: PodShare
    /// In the place of a virtiofsd: in a mount namespace of its own, which has the node's mounts as well.
    private var server: ChildProcess?

    init() throws {
        share = PodShare(directory: directory + "/share")
        try FileManager.default.createDirectory(atPath: directory + "/source/below", withIntermediateDirectories: true)
        try "kept\n".write(toFile: directory + "/source/file", atomically: true, encoding: .utf8)
    }

    deinit {
        // A child of a worker thread has all signals blocked that can be: SIGTERM would not end it.
        if let server { kill(server.processIdentifier, SIGKILL) }
        try? share.remove()
        for path in ["/source/below", "/source"] { clinux_detach_mount(directory + path) }
        try? FileManager.default.removeItem(atPath: directory)
    }

    private var source: String { directory + "/source" }

    private static func mounts() throws -> String {
        String(decoding: try KernelFile.read("/proc/self/mountinfo", limit: 64 << 20), as: UTF8.self)
    }

    private func add(_ path: String, _ index: Int, readOnly: Bool = false) throws -> String {
        try add(HostPath(path), index, .init(readOnly: readOnly, receivesMounts: false))
    }

    /// - Returns: where the server finds it.
    private func add(_ path: HostPath, _ index: Int, _ options: PodShare.Options) throws -> String {
        let namespace = try namespace()
        let place = try OwnThread.runAndWait { [share] in try share.add(path, container: "c", index: index, options, in: namespace) }
        return "/proc/\(server?.processIdentifier ?? 0)/root\(share.root)/\(place)"
    }

    private func namespace() throws -> ShareNamespace {
        let server = try self.server ?? startServer()
        self.server = server
        let process = try #require(ProcessIdentity.of(server.processIdentifier))
        for _ in 0..<1000 {
            if let namespace = try? ShareNamespace(of: process, root: share.root) { return namespace }
            usleep(5000)
        }
        return try ShareNamespace(of: process, root: share.root)
    }

    private func startServer() throws -> ChildProcess {
        let process = ChildProcess()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/unshare")
        process.arguments = ["--mount", "--propagation", "slave", "/bin/sleep", "600"]
        try process.run()
        return process
    }

    private func tmpfs(_ name: String) throws {
        try FileManager.default.createDirectory(atPath: "\(directory)/\(name)", withIntermediateDirectories: true)
        try #require(clinux_mount("tmpfs", "\(directory)/\(name)", "tmpfs", 0, "size=1m") == 0)
    }

    private func canWrite(_ path: String) -> Bool {
        let file = open(path + "/new", O_CREAT | O_WRONLY | O_CLOEXEC, 0o644)
        if file >= 0 { close(file) }
        return file >= 0
    }

    @Test func mountsShowTheirSourcesAndGoWithoutTouchingThem() throws {
        try share.create()
        try share.create()
        let whole = try add(source, 0)
        let file = try add(source + "/file", 1, readOnly: true)
        #expect(try String(contentsOfFile: whole + "/file", encoding: .utf8) == "kept\n")
        #expect(try String(contentsOfFile: file, encoding: .utf8) == "kept\n")
        #expect(open(file, O_WRONLY) < 0 && errno == EROFS)
        #expect(mkdir(share.root + "/new", 0o755) < 0 && errno == EROFS)
        try share.remove(container: "c")
        try share.remove(container: "c")
        #expect(!FileManager.default.fileExists(atPath: whole))
        _ = try add(source, 0)
        try share.remove()
        try share.remove()
        #expect(!FileManager.default.fileExists(atPath: share.directory))
        #expect(try String(contentsOfFile: source + "/file", encoding: .utf8) == "kept\n")
        #expect(try !Self.mounts().contains(directory))
    }

    /// A kubelet unmounts what was mounted below a volume and removes the directory, while containers may have either.
    @Test func theNodeUnmountsAndRemovesWhatContainersHaveMounted() throws {
        try share.create()
        try tmpfs("source/below")
        try tmpfs("volume")
        let whole = try add(source, 0)
        let volume = try add(directory + "/volume", 1)
        #expect(canWrite(whole + "/below") && canWrite(volume))
        for name in ["source/below", "volume"] {
            #expect(umount("\(directory)/\(name)") == 0, "\(name): errno \(errno)")
            #expect(rmdir("\(directory)/\(name)") == 0, "\(name): errno \(errno)")
        }
        // What a container has of a volume stays its own until it goes.
        #expect(FileManager.default.fileExists(atPath: volume + "/new"))
        #expect(try !Self.mounts().contains(share.root + "/c"))
    }

    @Test func readOnlyIsTheMountItselfAndAllBelowWhereThatWasAsked() throws {
        try share.create()
        try tmpfs("source/below")
        let single = try add(source, 0, readOnly: true)
        #expect(!canWrite(single) && canWrite(single + "/below"))
        let all = try add(HostPath(source), 1, .init(readOnly: true, recursiveReadOnly: true, receivesMounts: false))
        #expect(!canWrite(all) && !canWrite(all + "/below"))
    }

    @Test func readOnlyMountsReceiveTheNodesLaterMounts() throws {
        try share.create()
        try #require(clinux_mount(source, source, "", UInt(CLINUX_MS_BIND), "") == 0)
        try #require(clinux_mount("none", source, "", UInt(CLINUX_MS_SHARED), "") == 0)
        let path = try HostPath(source)
        #expect(path.receivesMounts && !path.holdsMounts)
        let received = try add(path, 0, .init(readOnly: true, receivesMounts: true))
        let own = try add(path, 1, .init(readOnly: true, receivesMounts: false))
        try tmpfs("source/below")
        #expect(path.holdsMounts)
        try "late\n".write(toFile: source + "/below/file", atomically: true, encoding: .utf8)
        #expect(try String(contentsOfFile: received + "/below/file", encoding: .utf8) == "late\n")
        #expect(!FileManager.default.fileExists(atPath: own + "/below/file"))
        #expect(umount(source + "/below") == 0 && rmdir(source + "/below") == 0, "errno \(errno)")
        #expect(!FileManager.default.fileExists(atPath: received + "/below"))
    }

    @Test func aMountThatContainsTheShareEnds() throws {
        try share.create()
        let loop = try add(directory, 0)
        #expect(try String(contentsOfFile: loop + "/source/file", encoding: .utf8) == "kept\n")
        let second = try add(source, 1)
        #expect(try String(contentsOfFile: second + "/file", encoding: .utf8) == "kept\n")
        try share.remove()
        #expect(try !Self.mounts().contains(directory))
    }

    @Test func whatCannotBeSharedIsRefusedByItsPath() throws {
        mkfifo(directory + "/pipe", 0o600)
        mknod(directory + "/socket", S_IFSOCK | 0o600, 0)
        mknod(directory + "/device", S_IFCHR | 0o600, 1 << 8 | 3)
        symlink("nowhere", directory + "/dangling")
        symlink("loop", directory + "/loop")
        for name in ["pipe", "socket", "device", "dangling", "loop", "absent", "source/file/below"] {
            let error = #expect(throws: SwiftletError.self) { try HostPath(self.directory + "/" + name) }
            #expect(error?.message.contains(directory + "/" + name) == true)
        }
    }

    @Test func aPathIsLookedUpOnce() throws {
        try share.create()
        let path = try HostPath(source)
        try FileManager.default.moveItem(atPath: source, toPath: directory + "/moved")
        symlink("/etc", source)
        let place = try add(path, 0, .init(readOnly: false, receivesMounts: false))
        #expect(try FileManager.default.contentsOfDirectory(atPath: place).sorted() == ["below", "file"])
    }

    @Test func idsAreMappedWhereTheFilesystemCan() throws {
        try share.create()
        chown(source + "/file", 5, 6)
        let mappings = IDMappings(
            uids: [IDMapping(containerID: 0, hostID: 100_000, length: 1000)],
            gids: [IDMapping(containerID: 0, hostID: 200_000, length: 1000)])
        let options = PodShare.Options(readOnly: false, receivesMounts: false, mappings: mappings)
        let place = try add(HostPath(source), 0, options)
        var status = stat()
        #expect(stat("\(place)/file", &status) == 0 && status.st_uid == 100_005 && status.st_gid == 200_006)
        let error = #expect(throws: SwiftletError.self) {
            try self.add(HostPath("/proc/sys"), 1, options)
        }
        #expect(error?.message.contains("uidMappings") == true)
    }

    @Test func emptyDirsInMemoryAreToldFromOtherDirectories() throws {
        let volume = directory + "/volumes/kubernetes.io~empty-dir/cache"
        try FileManager.default.createDirectory(atPath: volume, withIntermediateDirectories: true)
        #expect(try HostPath(volume).memoryVolume == nil)
        try #require(clinux_mount("tmpfs", volume, "tmpfs", 0, "size=1m,mode=2777,gid=99") == 0)
        defer { clinux_detach_mount(volume) }
        mkdir(volume + "/a", 0o755)
        mkdir(volume + "/a/b", 0o755)
        let whole = try #require(try HostPath(volume).memoryVolume)
        #expect(whole.size == 1 << 20 && whole.mode == 0o2777 && whole.gid == 99 && whole.subPath == "")
        let part = try #require(try HostPath(volume + "/a/b").memoryVolume)
        #expect(part.name == whole.name && part.subPath == "a/b")
        // The kubelet's way of a subPath.
        let bound = directory + "/bound"
        mkdir(bound, 0o755)
        try #require(clinux_mount(volume + "/a", bound, "", UInt(CLINUX_MS_BIND), "") == 0)
        defer { clinux_detach_mount(bound) }
        #expect(try HostPath(bound + "/b").memoryVolume == part)
    }
}

struct MountTableTests {
    @Test func namesWithBlanksAndPropagationAreRead() throws {
        let text = """
            36 35 98:0 /mnt\\0401 /a\\134b\\011c rw,noatime master:1 - ext3 /dev/root rw,errors=continue
            37 35 0:22 / /shared rw shared:7 master:2 propagate_from:3 - tmpfs tmpfs rw
            broken
            38 35 0:23 / /x rw

            """
        let table = MountTable(text: Array(text.utf8))
        #expect(table.entries.count == 2)
        #expect(table.entries[0].root == "/mnt 1" && table.entries[0].mountPoint == "/a\\b\tc")
        #expect(table.entries[0].isSlave && !table.entries[0].isShared && table.entries[0].filesystem == "ext3")
        #expect(table.entries[1].isShared && table.entries[1].isSlave && table.entries[1].device == "0:22")
    }
}
