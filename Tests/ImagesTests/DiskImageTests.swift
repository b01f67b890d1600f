import Errors
import Foundation
import Runtime
import State
import Support
import Testing

@testable import Images

/// Disks of machines in the store, beside the images of containers.
@Suite(.timeLimit(.minutes(2))) struct DiskImageTests {
    static let qcow = Data(QcowBuilder().built())
    static let raw = noise(1 << 20, seed: 3) + Data(count: 1 << 20)

    @Test(arguments: [("debian-12.qcow2", qcow, DiskImage.Format.qcow2, 1 << 30), ("Debian 12.raw", raw, .raw, 2 << 20)])
    func aLoadedDiskIsAnImageOfItsDigest(_ name: String, _ bytes: Data, _ format: DiskImage.Format, _ size: Int) async throws {
        try await withStore { store, directory async throws in
            let images = try await store.load(path: try directory.file(name, bytes))
            let image = try #require(images.first)
            let digest = OCIImageBuilder.digest(bytes)
            #expect(images.count == 1)
            #expect(image.repoTags == ["docker.io/library/debian-12:latest"])
            #expect(image.repoDigests == ["docker.io/library/debian-12@\(digest)"])
            #expect(image.size >= bytes.count)
            #expect(try await store.status("debian-12") == image)
            #expect(try await store.list() == [image])
            let rootfs = try await store.rootfs(of: image.id)
            let disk = try #require(rootfs.content.disk)
            #expect(disk.format == format && disk.virtualSize == UInt64(size) && disk.digest == digest)
            #expect(rootfs.layers.isEmpty)
            #expect(try Data(contentsOf: URL(fileURLWithPath: disk.path)) == bytes)
            let attributes = try FileManager.default.attributesOfItem(atPath: disk.path)
            #expect(attributes[.posixPermissions] as? Int == 0o400)
            let usage = try await store.filesystemUsage()
            #expect(usage.inodesUsed == 1)
            if format == .raw { #expect(usage.usedBytes < 2 << 20, "zeros are holes") }
        }
    }

    /// The group of QEMU's users reads it, and nobody else but root.
    @Test func onlyRootAndTheMachinesReadADisk() async throws {
        try await withStore({ $0.group = 4242 }) { store, directory async throws in
            let image = try #require(try await store.load(path: try directory.file("d.qcow2", Self.qcow)).first)
            let disk = try #require(try await store.rootfs(of: image.id).content.disk)
            let attributes = try FileManager.default.attributesOfItem(atPath: disk.path)
            #expect(attributes[.posixPermissions] as? Int == 0o440 && attributes[.groupOwnerAccountID] as? Int == 4242)
        }
    }

    /// Nobody looks for the format again: not after a restart, not when a guest would have written something else.
    @Test func theFormatIsThatOfTheRecord() async throws {
        try await withTestDirectory { directory in
            var (path, id) = ("", "")
            try await withStore(in: directory) { store async throws in
                let image = try #require(try await store.load(path: try directory.file("d.qcow2", Self.qcow)).first)
                path = try #require(try await store.rootfs(of: image.id).content.disk).path
                id = image.id
            }
            // Of the same size, but raw.
            try Data(count: Self.qcow.count).write(to: URL(fileURLWithPath: path))
            try await withStore(in: directory) { store async throws in
                let disk = try await store.rootfs(of: id).content.disk
                #expect(disk?.format == .qcow2 && disk?.virtualSize == 1 << 30)
            }
        }
    }

    @Test func aRemovedDiskStaysAsLongAsAMachineHasIt() async throws {
        try await withStore { store, directory async throws in
            let image = try #require(try await store.load(path: try directory.file("d.qcow2", Self.qcow)).first)
            try await store.lease(imageID: image.id, holder: "machine")
            try await store.remove("d")
            #expect(try await store.list().isEmpty)
            let disk = try #require(try await store.rootfs(of: image.id).content.disk)
            #expect(FileManager.default.fileExists(atPath: disk.path))
            try await store.releaseLeases(holder: "machine")
            #expect(directory.stored.isEmpty)
            #expect(try await store.database.read { try $0.tableNamesWithRows }.isEmpty)
        }
    }

    @Test func aPinnedDiskSaysSo() async throws {
        try await withStore({ $0.pinned = ["base:1"] }) { store, directory async throws in
            let path = try directory.file("d.qcow2", Self.qcow)
            #expect(try await store.load(path: path, reference: "base:1").first?.pinned == true)
        }
    }

    @Test func aDiskWhoseFileIsGoneIsForgotten() async throws {
        try await withTestDirectory { directory in
            try await withStore(in: directory) { store async throws in
                let image = try #require(try await store.load(path: try directory.file("d.qcow2", Self.qcow)).first)
                try FileManager.default.removeItem(atPath: try #require(try await store.rootfs(of: image.id).content.disk).path)
            }
            try await withStore(in: directory) { store async throws in #expect(try await store.list().isEmpty) }
        }
    }

    @Test(arguments: [
        "UPDATE layer SET virtualSize = 'x'", "UPDATE layer SET virtualSize = -1", "UPDATE layer SET digest = 17",
        "UPDATE layer SET version = 99",
    ]) func aDamagedDiskKeepsItsFileUntilItIsRemoved(_ sql: String) async throws {
        try await withTestDirectory { directory in
            var id = ""
            try await withStore(in: directory) { store async throws in
                id = try #require(try await store.load(path: try directory.file("d.qcow2", Self.qcow)).first).id
                try await store.lease(imageID: id, holder: "machine")
                try await store.database.write { try $0.execute(sql: sql) }
            }
            try await withStore(in: directory) { store async throws in
                #expect(directory.stored.count == 1, "a machine has it open")
                #expect(try await store.status("d") == nil)
                await #expect(throws: SwiftletError.self) { try await store.rootfs(of: id) }
                try await store.remove("d")
                try await store.releaseLeases(holder: "machine")
                #expect(directory.stored.isEmpty)
            }
        }
    }

    // MARK: What is not taken

    @Test(arguments: HostileDisk.all.map(\.name)) func aHostileDiskLeavesNothingBehind(_ name: String) async throws {
        let hostile = try #require(HostileDisk.all.first { $0.name == name })
        try await withStore { store, directory async throws in
            let path = try directory.file("disk.img", Data(hostile.bytes))
            let error = await #expect(throws: SwiftletError.self) { try await store.load(path: path) }
            #expect(error?.code == .invalidArgument && error?.message.contains(hostile.reason) == true, "\(String(describing: error))")
            #expect(error?.message.contains(path) == true)
            #expect(directory.stored.isEmpty)
            #expect(try await store.database.read { try $0.tableNamesWithRows }.isEmpty)
        }
    }

    @Test func aRawDiskThatLooksLikeQcow2IsTakenWhereThatIsSaid() async throws {
        try await withStore { store, directory async throws in
            let path = try directory.file("disk.raw", Self.qcow)
            let error = await #expect(throws: SwiftletError.self) { try await store.load(path: path) }
            #expect(error?.message.contains("its name says raw") == true && error?.message.contains("--disk-format") == true)
            #expect(directory.stored.isEmpty)
            let image = try #require(try await store.load(path: path, diskFormat: .raw).first)
            let disk = try await store.rootfs(of: image.id).content.disk
            #expect(disk?.format == .raw && disk?.virtualSize == UInt64(Self.qcow.count))
            // The same bytes are another disk in the other format: machines that have this one by its id keep it.
            let other = try #require(try await store.load(path: path, diskFormat: .qcow2).first)
            #expect(other.id != image.id && directory.stored.count == 2)
            #expect(try await store.rootfs(of: image.id).content.disk?.format == .raw)
            #expect(try await store.rootfs(of: other.id).content.disk?.format == .qcow2)
        }
    }

    @Test func aFileThatIsCalledQcow2AndIsNoneIsRefused() async throws {
        try await withStore { store, directory async throws in
            let path = try directory.file("disk.qcow2", Self.raw)
            let error = await #expect(throws: SwiftletError.self) { try await store.load(path: path) }
            #expect(error?.message.contains("it is no qcow2 image") == true)
        }
    }

    @Test func aNameIsGivenOrMadeOfTheFilesName() async throws {
        try await withStore { store, directory async throws in
            let bytes = try OCIImageBuilder.compress(Self.qcow, .gzip)
            let image = try #require(try await store.load(path: try directory.file("Fedora-Cloud_40.x86_64.qcow2.gz", bytes)).first)
            #expect(image.repoTags == ["docker.io/library/fedora-cloud_40.x86_64:latest"])
            #expect(image.repoDigests == ["docker.io/library/fedora-cloud_40.x86_64@\(OCIImageBuilder.digest(Self.qcow))"])
            let again = try await store.load(path: try directory.file("x.qcow2", Self.qcow), reference: "registry.example/vm:3")
            #expect(again.first?.id == image.id && again.first?.repoTags.contains("registry.example/vm:3") == true)
            let nameless = try directory.file("___.qcow2", Self.qcow)
            let error = await #expect(throws: SwiftletError.self) { try await store.load(path: nameless) }
            #expect(error?.message.contains("give one by --name") == true)
            // By its content alone.
            #expect(try await store.load(path: try directory.file("disk", Self.qcow)).first?.id == image.id)
        }
    }

    /// The same bytes as a layer's tar and as a disk are two things.
    @Test func aLayerAndADiskOfTheSameBytesAreKeptApart() async throws {
        let tar = layer("file", "x")
        let built = try OCIImageBuilder(layers: [tar]).build()
        try await withStore { store, directory async throws in
            _ = try await store.load(path: try directory.file("app.tar", OCIImageBuilder.archive([("app:v1", built)])))
            let disk = try #require(try await store.load(path: try directory.file("d.raw", tar), diskFormat: .raw).first)
            #expect(try await store.rootfs(of: disk.id).content.disk != nil)
            #expect(try await store.rootfs(of: built.id).layers.count == 1)
            #expect(directory.stored.count == 2)
        }
    }

    /// A tenant makes a disk of the very bytes that are another image's configuration, whose digest is that image's id.
    @Test(arguments: [true, false]) func aDiskCannotTakeTheIDOfAContainersImage(_ diskFirst: Bool) async throws {
        let plain = try OCIImageBuilder(layers: [layer("file", "x")]).build()
        // JSON may end in spaces: a whole number of sectors.
        let padded = plain.config.bytes + Data(repeating: 0x20, count: (512 - plain.config.bytes.count % 512) % 512)
        let built = try OCIImageBuilder.image(
            config: .init(mediaType: plain.config.mediaType, bytes: padded), layers: plain.layers, manifestType: plain.manifest.mediaType)
        try await withStore { store, directory async throws in
            let disk = try directory.file("d.raw", padded)
            let archive = try directory.file("app.tar", OCIImageBuilder.archive([("app:v1", built)]))
            for path in diskFirst ? [disk, archive] : [archive, disk] { _ = try await store.load(path: path) }
            let image = try #require(try await store.status("app:v1"))
            #expect(image.id == OCIImageBuilder.digest(padded))
            #expect(try await store.rootfs(of: image.id).layers.count == 1)
            let other = try #require(try await store.status("d"))
            #expect(try await store.rootfs(of: other.id).content.disk != nil && other.id != image.id)
        }
    }

    /// They are heavy: what is converted or looked at takes one of the node's few permits, as layers do.
    @Test func disksAreTakenInOneAfterTheOtherWhereThereIsOnePermit() async throws {
        try await withTestDirectory { directory in
            let script = """
                #!/bin/sh
                mkdir "\(directory.path)/busy" || echo overlap >>"\(directory.path)/log"
                sleep 0.1
                rmdir "\(directory.path)/busy"
                echo '{"format":"raw","virtualSize":512}'

                """
            let program = try directory.file("diskinfo", Data(script.utf8))
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
            let change: (inout ImageStoreConfiguration) -> Void = { ($0.diskInspector, $0.maxConversions) = (program, 1) }
            try await withStore(in: directory, change) { store async throws in
                let paths = try (0..<4).map { try directory.file("d\($0).raw", Data(repeating: UInt8($0), count: 512)) }
                let disk = layer("disk/a.img", Data(repeating: 9, count: 512))
                let archive = try directory.file("c.tar", OCIImageBuilder.archive([("c:1", try OCIImageBuilder(layers: [disk]).build())]))
                try await withThrowingTaskGroup { group in
                    for path in paths + [archive] { group.addTask { _ = try await store.load(path: path) } }
                    try await group.waitForAll()
                }
                #expect(try await store.list().count == 5)
            }
            #expect(!FileManager.default.fileExists(atPath: directory.path + "/log"), "two at a time")
        }
    }

    // MARK: The program that looks

    private func withProgram(_ script: String, _ body: (ImageStore, String) async throws -> Void) async throws {
        try await withTestDirectory { directory in
            let program = try directory.file("diskinfo", Data("#!/bin/sh\n\(script)\n".utf8))
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
            try await withStore(in: directory, { $0.diskInspector = program }) { store async throws in
                try await body(store, try directory.file("d.qcow2", Self.qcow))
                #expect(directory.stored.isEmpty)
            }
        }
    }

    @Test(arguments: [
        ("echo '{\"format\":\"vmdk\",\"virtualSize\":512}'", "failed at this disk image, with status 0"),
        ("echo '{\"format\":\"raw\",\"virtualSize\":0}'", "no answer that can be"),
        ("echo '{\"format\":\"raw\",\"virtualSize\":1152921504606846976}'", "no answer that can be"),
        ("echo '{\"format\":\"raw\"}'", "no answer that can be"), ("exit 0", "failed at this disk image"),
        ("echo '{\"refusal\":\"a\\u001b[31mb\"}'", "a?[31mb"),
        ("echo broken >&2; kill -SEGV $$", "with status 139: broken"), ("yes", "more than 4096 bytes"),
    ]) func aProgramThatAHostileImageHasTakenOverGetsNothingIn(_ script: String, _ reason: String) async throws {
        try await withProgram(script) { store, path async throws in
            let error = await #expect(throws: SwiftletError.self) { try await store.load(path: path) }
            #expect(error?.message.contains(reason) == true, "\(String(describing: error))")
        }
    }

    @Test func aProgramThatHangsIsKilled() async throws {
        try await withTestDirectory { directory in
            let path = try directory.file("disk", Self.qcow)
            let program = try directory.file("diskinfo", Data("#!/bin/sh\nexec sleep 1000\n".utf8))
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
            let inspector = DiskInspector(program: program, deadline: .milliseconds(300))
            let error = #expect(throws: SwiftletError.self) { try inspector.inspect(path) }
            #expect(error?.code == .deadlineExceeded)
            // Its outputs closed, and alive.
            try Data("#!/bin/sh\nexec sleep 1000 >&- 2>&-\n".utf8).write(to: URL(fileURLWithPath: program))
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
            let silent = #expect(throws: SwiftletError.self) { try inspector.inspect(path) }
            #expect(silent?.code == .deadlineExceeded)
        }
    }
}
