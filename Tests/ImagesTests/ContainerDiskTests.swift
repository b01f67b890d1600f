import Errors
import Foundation
import Runtime
import Support
import Testing

@testable import Images

/// KubeVirt's containerDisks, from Debian's docker-registry and from archives.
@Suite(.timeLimit(.minutes(2))) struct ContainerDiskTests {
    private static let qcow = DiskImageTests.qcow

    private static func tar(_ write: (inout TarBuilder) -> Void) -> Data {
        var tar = TarBuilder()
        write(&tar)
        return tar.finished()
    }

    private static func image(_ layers: [Data], compression: OCIImageBuilder.Compression = .gzip, cmd: [String]? = nil) throws -> BuiltImage
    {
        var builder = OCIImageBuilder(layers: layers)
        builder.compression = compression
        builder.cmd = cmd
        return try builder.build()
    }

    private static let disk = tar {
        $0.directory("disk")
        $0.file("disk/downloaded", qcow, mode: 0o440, uid: 107, gid: 107)
    }

    @Test(arguments: OCIImageBuilder.Compression.allCases)
    func aContainerDiskIsPulledWithCredentials(_ compression: OCIImageBuilder.Compression) async throws {
        let built = try Self.image([Self.disk], compression: compression)
        let registry = try await TestRegistry.start(withPassword: true)
        defer { registry.stop() }
        try await registry.push(built, "vms/debian", tag: "12")
        try await withStore { store, directory async throws in
            let reference = "\(registry.host)/vms/debian:12"
            await #expect(throws: SwiftletError.self) { try await store.pull(reference, auth: nil) }
            let auth = RegistryAuth(username: TestRegistry.credentials.user, password: TestRegistry.credentials.password)
            let image = try await store.pull(reference, auth: auth)
            #expect(image.id == built.id && image.repoTags == [reference])
            let disk = try #require(try await store.rootfs(of: image.id).content.disk)
            #expect(disk.format == .qcow2 && disk.virtualSize == 1 << 30 && disk.digest == OCIImageBuilder.digest(Self.qcow))
            #expect(try Data(contentsOf: URL(fileURLWithPath: disk.path)) == Self.qcow)
            #expect(directory.stored.count == 1, "the layer itself is gone")
            #expect(try await store.config(of: image.id).diffIDs.count == 1)
        }
    }

    /// A kubelet pulls `:latest` before each container.
    @Test func aContainerDiskThatIsHereIsNotFetchedAgain() async throws {
        let built = try Self.image([Self.disk])
        let registry = try await FakeRegistry.start()
        registry.add(built, "vm")
        try await withStore { store, _ async throws in
            let image = try await store.pull("\(registry.host)/vm")
            registry.add(built, "copy")
            let again = try await store.pull("\(registry.host)/copy")
            #expect(again.id == image.id && again.repoTags == ["\(registry.host)/copy:latest", "\(registry.host)/vm:latest"])
            #expect(registry.count(built.layers[0].digest) == 1)
        }
        try await registry.stop()
    }

    /// As tools build them: directories in a layer of their own, a file put over another.
    @Test func layersAreStackedBeforeTheDiskIsLookedFor() async throws {
        let below = Self.tar {
            $0.directory("./")
            $0.directory("./disk", mode: 0o555)
            $0.file("./disk/old.img", Data(count: 4096))
        }
        let above = Self.tar {
            $0.file("disk/.wh.old.img", Data())
            $0.file("disk/new.img", Data(count: 1024))
        }
        let built = try Self.image([below, above])
        try await withStore { store, directory async throws in
            let images = try await store.load(path: try directory.file("vm.tar", OCIImageBuilder.archive([("vm:1", built)])))
            let disk = try await store.rootfs(of: try #require(images.first).id).content.disk
            #expect(disk?.format == .raw && disk?.virtualSize == 1024)
        }
    }

    @Test(arguments: [
        ("two files", "its /disk holds 2 files (\"a.img\", \"b.img\")"), ("a link", "\"a.img\" in its /disk is a link or a device"),
        ("a directory below", "\"sub/a.img\" is not in /disk itself"), ("backing file", "it has a backing file, \"/etc/passwd\""),
        ("text", "no whole number of sectors"),
    ]) func whatIsWrongIsSaid(_ what: String, _ reason: String) async throws {
        let hostile = Data(try #require(HostileDisk.all.first { $0.name == "backing file" }).bytes)
        let tar = Self.tar { tar in
            switch what {
            case "two files":
                tar.file("disk/a.img", Data(count: 512))
                tar.file("disk/b.img", Data(count: 512))
            case "a link": tar.symlink("disk/a.img", to: "/etc/shadow")
            case "a directory below": tar.file("disk/sub/a.img", Data(count: 512))
            case "backing file": tar.file("disk/a.img", hostile)
            default: tar.file("disk/a.img", "no disk")
            }
        }
        let built = try Self.image([tar])
        let registry = try await FakeRegistry.start()
        registry.add(built, "vm")
        try await withStore { store, directory async throws in
            let error = await #expect(throws: SwiftletError.self) { try await store.pull("\(registry.host)/vm") }
            #expect(error?.code == .invalidArgument && error?.message.contains(reason) == true, "\(String(describing: error))")
            #expect(directory.stored.isEmpty)
        }
        try await registry.stop()
    }

    /// An image of data for volumes may have a /disk as well.
    @Test(arguments: [["disk/readme.txt"], ["disk/a", "disk/b"], ["disk/notes/today"]]) func whatDoesNotLookLikeADiskIsData(
        _ names: [String]
    ) async throws {
        let built = try Self.image([Self.tar { tar in for name in names { tar.file(name, "no disk, but words") } }])
        try await withStore { store, directory async throws in
            _ = try await store.load(path: try directory.file("data.tar", OCIImageBuilder.archive([("data:1", built)])))
            #expect(try await store.rootfs(of: built.id).content.disk == nil)
        }
    }

    @Test func aDiskIsOneByItsFirstBytesAlone() async throws {
        let sector = Data(count: 510) + [0x55, 0xAA]
        for bytes in [Self.qcow, sector + Data(count: 512)] {
            let built = try Self.image([Self.tar { $0.file("disk/downloaded", bytes) }])
            try await withStore { store, directory async throws in
                _ = try await store.load(path: try directory.file("vm.tar", OCIImageBuilder.archive([("vm:1", built)])))
                #expect(try await store.rootfs(of: built.id).content.disk?.digest == OCIImageBuilder.digest(bytes))
            }
        }
    }

    /// Nobody can tell that the disk is meant.
    @Test func anImageWithARootOrACommandIsAContainers() async throws {
        let root = layer("bin/sh", "x")
        for (layers, cmd) in [([root, Self.disk], nil), ([Self.disk], ["/disk/downloaded"])] as [([Data], [String]?)] {
            let built = try Self.image(layers, cmd: cmd)
            try await withStore { store, directory async throws in
                _ = try await store.load(path: try directory.file("app.tar", OCIImageBuilder.archive([("app:1", built)])))
                #expect(try await store.rootfs(of: built.id).layers.count == layers.count)
            }
        }
    }
}
