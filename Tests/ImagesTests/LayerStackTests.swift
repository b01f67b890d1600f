import Errors
import Foundation
import Runtime
import Support
import Testing

@testable import Images

/// What layers mean above each other, as the kernel shows their stack.
@Suite struct LayerStackTests {
    /// Loads an image of these layers and shows its root; `body` also gets what the image is stacked from.
    private func withImage(
        _ layers: [Data], _ change: (inout ImageStoreConfiguration) -> Void = { _ in }, _ body: (MountedImage, [LayerImage]) throws -> Void
    ) async throws {
        try await withStore(change) { store, directory async throws in
            let path = try directory.file("image.tar", OCIImageBuilder.archive([("image:v1", try OCIImageBuilder(layers: layers).build())]))
            let image = try #require(try await store.load(path: path).first)
            let rootfs = try await store.rootfs(of: image.id)
            try mount(rootfs.layers.reversed(), []) { try body($0, rootfs.layers) }
        }
    }

    private func mount(_ layers: [LayerImage], _ mounted: [MountedImage], _ body: (MountedImage) throws -> Void) throws {
        guard let layer = layers.first else {
            if mounted.count == 1 { return try body(mounted[0]) }
            return try MountedImage.withOverlay(mounted, body)
        }
        try MountedImage.with(layer.path) { image throws in try mount(Array(layers.dropFirst()), mounted + [image], body) }
    }

    private func failure(_ layers: [Data], _ change: (inout ImageStoreConfiguration) -> Void = { _ in }) async throws -> SwiftletError {
        var found: SwiftletError?
        try await withStore(change) { store, directory async throws in
            let path = try directory.file("image.tar", OCIImageBuilder.archive([("image:v1", try OCIImageBuilder(layers: layers).build())]))
            found = await #expect(throws: SwiftletError.self) { try await store.load(path: path) }
            #expect(directory.stored.isEmpty)
        }
        return try #require(found)
    }

    private func tar(_ build: (inout TarBuilder) -> Void) -> Data {
        var tar = TarBuilder()
        build(&tar)
        return tar.finished()
    }

    @Test func impliedParentsKeepTheLowerDirectorysAttributes() async throws {
        let low = tar {
            $0.directory("./", mode: 0o711, uid: 3)
            $0.directory("tmp", mode: 0o1777)
            $0.directory("home")
            $0.directory("home/worker", mode: 0o700, uid: 1000, gid: 1001, xattrs: ["user.note": "mine"])
            $0.file("home/worker/old", "old")
        }
        let high = tar {
            $0.file("tmp/x", "x")
            $0.file("home/worker/new", "new")
            $0.file("fresh/y", "y")
        }
        let top = tar {
            $0.directory("home/worker", mode: 0o750, uid: 7)
            $0.file("tmp/z", "z")
        }
        try await withImage([low, high]) { root, _ throws in
            #expect(try root.status("").st_mode == S_IFDIR | 0o711)
            #expect(try root.status("").st_uid == 3)
            #expect(try root.status("tmp").st_mode == S_IFDIR | 0o1777)
            let home = try root.status("home/worker")
            #expect(home.st_mode == S_IFDIR | 0o700 && home.st_uid == 1000 && home.st_gid == 1001)
            #expect(root.xattr("home/worker", "user.note") == Data("mine".utf8))
            #expect(try root.names("home/worker") == ["new", "old"])
            #expect(try root.status("fresh").st_mode == S_IFDIR | 0o755)
        }
        // An entry of its own replaces, also above the implied ones.
        try await withImage([low, high, top]) { root, _ throws in
            let home = try root.status("home/worker")
            #expect(home.st_mode == S_IFDIR | 0o750 && home.st_uid == 7 && home.st_gid == 0)
            #expect(root.xattr("home/worker", "user.note") == nil)
            #expect(try root.names("tmp") == ["x", "z"])
            #expect(try root.status("tmp").st_mode == S_IFDIR | 0o1777)
        }
    }

    @Test func lowerSymbolicLinksAreFollowedInsideTheImage() async throws {
        let low = tar {
            $0.directory("usr", mode: 0o750)
            $0.directory("usr/bin", mode: 0o711)
            $0.file("usr/bin/old", "old")
            $0.file("usr/bin/hidden", "hidden")
            $0.symlink("bin", to: "usr/bin")
            $0.directory("run", mode: 0o700)
            $0.directory("var")
            $0.symlink("var/run", to: "/run")
            $0.symlink("escape", to: "../../../../etc")
            $0.symlink("dangling", to: "/made/by/it")
            $0.symlink("twice", to: "bin")
            $0.symlink("replaced", to: "usr")
        }
        let data = noise(70_000, seed: 9)
        let high = tar {
            $0.file("bin/new", data, mode: 0o755, uid: 12, xattrs: ["user.note": "moved"])
            $0.file("bin/.wh.hidden", "")
            $0.file("var/run/deep/pid", "1")
            $0.file("escape/passwd", "inside")
            $0.file("dangling/x", "x")
            $0.symlink("twice/link", to: "new")
            $0.directory("replaced", mode: 0o701)
            $0.file("replaced/own", "own")
        }
        try await withImage([low, high]) { root, _ throws in
            #expect(try root.link("bin") == "usr/bin")
            #expect(try root.link("var/run") == "/run")
            #expect(try root.names("usr/bin") == ["link", "new", "old"])
            #expect(try root.contents("usr/bin/new") == data)
            let moved = try root.status("usr/bin/new")
            #expect(moved.st_mode == S_IFREG | 0o755 && moved.st_uid == 12 && moved.st_mtim.tv_sec == 1_700_000_000)
            #expect(root.xattr("usr/bin/new", "user.note") == Data("moved".utf8))
            #expect(try root.status("usr").st_mode == S_IFDIR | 0o750)
            #expect(try root.status("usr/bin").st_mode == S_IFDIR | 0o711)
            #expect(try root.contents("run/deep/pid") == Data("1".utf8))
            #expect(try root.status("run").st_mode == S_IFDIR | 0o700)
            #expect(try root.contents("etc/passwd") == Data("inside".utf8))
            #expect(try root.contents("made/by/it/x") == Data("x".utf8))
            #expect(try root.status("replaced").st_mode == S_IFDIR | 0o701)
            #expect(try root.names("replaced") == ["own"])
            #expect(!root.exists("usr/own"))
        }
    }

    @Test func opaqueDirectoriesBelowALinkHideWhatIsThere() async throws {
        let low = tar {
            $0.directory("usr/lib", mode: 0o711)
            $0.file("usr/lib/a", "a")
            $0.directory("usr/lib/sub")
            $0.symlink("lib", to: "usr/lib")
        }
        let high = tar {
            $0.file("lib/.wh..wh..opq", "")
            $0.file("lib/b", "b")
        }
        try await withImage([low, high]) { root, _ throws in
            #expect(try root.link("lib") == "usr/lib")
            #expect(try root.names("usr/lib") == ["b"])
            #expect(try root.status("usr/lib").st_mode == S_IFDIR | 0o711)
        }
    }

    @Test func hardLinksToFilesOfLowerLayersAreThoseFiles() async throws {
        let data = noise(100_000, seed: 3)
        let low = tar {
            $0.directory("usr/bin")
            $0.file("usr/bin/tool", data, mode: 0o4755, uid: 5, xattrs: ["user.note": "low"])
            $0.symlink("usr/bin/link", to: "tool")
            $0.symlink("bin", to: "usr/bin")
            $0.file("replaced", "old")
        }
        let high = tar {
            $0.hardLink("second", to: "usr/bin/tool")
            $0.hardLink("third", to: "bin/tool")
            $0.hardLink("fourth", to: "second")
            $0.hardLink("alias", to: "bin/link")
            $0.hardLink("replaced", to: "usr/bin/tool")
            $0.file("bin/own", "own")
            $0.hardLink("moved", to: "usr/bin/own")
        }
        try await withImage([low, high]) { root, layers throws in
            let tool = try root.status("usr/bin/tool")
            #expect(tool.st_mode == S_IFREG | 0o4755 && tool.st_uid == 5 && tool.st_nlink == 5)
            for name in ["second", "third", "fourth", "replaced"] {
                #expect(try root.status(name).st_ino == tool.st_ino, "\(name)")
                #expect(try root.contents(name) == data)
                #expect(root.xattr(name, "user.note") == Data("low".utf8))
            }
            #expect(try root.link("alias") == "tool")
            #expect(try root.contents("moved") == Data("own".utf8))
            #expect(try root.status("moved").st_ino == root.status("usr/bin/own").st_ino)
            // The data is in the fix-up layer once.
            #expect(layers.count == 3 && layers.last.map { $0.sizeBytes < 140_000 } == true)
        }
    }

    @Test func entriesThatLeadNowhereAreRefusedByName() async throws {
        let low = tar {
            $0.file("file", "x")
            $0.symlink("loop", to: "loop")
            $0.symlink("tofile", to: "file")
            $0.directory("dir")
        }
        let cases: [(high: Data, mentions: String)] = [
            (tar { $0.hardLink("a", to: "nothing/here") }, "\"a\" is a hard link to \"nothing/here\""),
            (tar { $0.hardLink("a", to: "/etc/shadow") }, "\"a\" is a hard link to \"/etc/shadow\""),
            (
                tar {
                    $0.symlink("out", to: "../../.."); $0.hardLink("a", to: "out/etc/shadow")
                }, "\"out/etc/shadow\""
            ),
            (tar { $0.hardLink("a", to: "dir") }, "\"a\" is a hard link to \"dir\""),
            (tar { $0.file("file/x", "x") }, "\"file\" goes through something that is not a directory"),
            (tar { $0.file("loop/x", "x") }, "\"loop\" goes through a symbolic link"),
            (tar { $0.file("tofile/x", "x") }, "\"tofile\" goes through a symbolic link"),
        ]
        for (high, mentions) in cases {
            let error = try await failure([low, high])
            #expect(error.code == .invalidArgument && error.message.contains(mentions), "\(error.message)")
        }
        let alone = try await failure([tar { $0.hardLink("a", to: "b") }])
        #expect(alone.code == .invalidArgument && alone.message.contains("layer 1 of the image"), "\(alone.message)")
    }

    @Test func aHostileStackIsBounded() async throws {
        // 60 links, each through the one before.
        let links = tar { tar in
            tar.directory("d0")
            for index in 1...60 { tar.symlink("d\(index)", to: "d\(index - 1)") }
        }
        let deep = try await failure([links, tar { $0.file("d60/x", "x") }])
        #expect(deep.message.contains("leads to no directory"), "\(deep.message)")

        let copies = tar {
            $0.hardLink("a", to: "big")
            $0.hardLink("b", to: "other")
        }
        let large = try await failure([layer("big", noise(600_000)), layer("other", noise(600_000, seed: 2)), copies]) {
            $0.limits.bytes = 1_000_000
        }
        #expect(large.code == .resourceExhausted, "\(large.message)")

        let many = tar { tar in for index in 0..<600 { tar.file("f\(index)", "") } }
        let nodes = try await failure([many, tar { tar in for index in 0..<500 { tar.file("x/\(index)", "") } }]) {
            $0.limits.nodes = 1000
        }
        #expect(nodes.code == .resourceExhausted && nodes.message.contains("500 files"), "\(nodes.message)")

        let nest = tar { tar in
            tar.directory(String(repeating: "d/", count: 60))
            tar.symlink("short", to: String(repeating: "d/", count: 60))
        }
        let depth = try await failure([nest, tar { $0.file("short/" + String(repeating: "e/", count: 60) + "x", "") }]) {
            $0.limits.depth = 100
        }
        #expect(depth.message.contains("deeper than 100"), "\(depth.message)")
    }

    @Test func layersStayTheSameWhateverIsBelowThem() async throws {
        let base = tar {
            $0.directory("usr/bin"); $0.symlink("bin", to: "usr/bin")
        }
        let other = tar { $0.directory("bin", mode: 0o700) }
        let shared = layer("bin/tool", noise(200_000))
        try await withStore { store, directory async throws in
            func load(_ name: String, _ layers: [Data]) async throws -> Image {
                let image = try OCIImageBuilder(layers: layers).build()
                return try #require(
                    try await store.load(path: try directory.file("\(name).tar", OCIImageBuilder.archive([("\(name):v1", image)]))).first)
            }
            let first = try await load("first", [base, shared])
            let second = try await load("second", [other, shared])
            let plain = try await load("plain", [shared])
            let roots = try await [store.rootfs(of: first.id), store.rootfs(of: second.id), store.rootfs(of: plain.id)]
            #expect(roots.map(\.layers.count) == [3, 3, 1])
            let files = Set(roots.flatMap { $0.layers.map(\.path) })
            #expect(files.count == 5, "the shared layer once, a fix-up layer each where one is needed")
            // The second has only a mode in it, no data.
            #expect(roots[1].layers.last.map { $0.sizeBytes <= 12 << 10 } == true)
            #expect(try await load("again", [base, shared]).id == first.id)
            for image in [first, second, plain] { try await store.remove(image.id) }
            #expect(directory.stored.isEmpty)
        }
    }

    @Test func aLargeStackCostsLittle() async throws {
        let low = tar { tar in
            tar.directory("./")
            for directory in 0..<200 {
                tar.directory("d\(directory)", mode: 0o700)
                for file in 0..<50 { tar.file("d\(directory)/some-file-name-\(file)", "") }
            }
            tar.symlink("link", to: "d7")
        }
        let high = tar {
            $0.file("d3/new", "new")
            $0.file("link/moved", noise(100_000))
        }
        let named = tar {
            $0.directory("d3", mode: 0o700)
            $0.file("d3/new", "new")
        }
        try await withTestDirectory { directory in
            let paths = try [low, high, named].enumerated().map { index, tar in
                let path = directory.appendingPathComponent("\(index)").path
                _ = try convert(tar, to: path, in: directory)
                return path
            }
            let fixup = directory.appendingPathComponent("fixup").path
            var result: FixupLayer.Result?
            let time = try ContinuousClock().measure {
                result = try FixupLayer.make(of: Array(paths[..<2]), stacked: [0, 1], at: fixup, limits: LayerLimits())
            }
            #expect(result.map { $0.sizeBytes < 128 << 10 && $0.entries == 5 } == true, "\(String(describing: result))")
            let without = try ContinuousClock().measure {
                let none = try FixupLayer.make(of: [paths[0], paths[2]], stacked: [0, 1], at: fixup + "2", limits: LayerLimits())
                #expect(none == nil)
            }
            #expect(without * 10 < time, "\(time) with marks, \(without) without")
        }
    }

    @Test func stacksWithoutImpliedEntriesGetNoLayerMore() async throws {
        let low = tar {
            $0.directory("./")
            $0.directory("etc", mode: 0o711)
            $0.file("etc/a", "a")
        }
        let high = tar {
            $0.directory("etc", mode: 0o711)
            $0.file("etc/b", "b")
            $0.hardLink("etc/c", to: "etc/b")
        }
        try await withImage([low, high]) { root, layers throws in
            #expect(layers.count == 2)
            #expect(try root.names("etc") == ["a", "b", "c"])
        }
        // Implied, but to no effect.
        try await withImage([low, tar { $0.file("new/x", "x") }]) { _, layers throws in #expect(layers.count == 2) }
    }

    @Test func anImageWithoutLayersIsAnEmptyDirectory() async throws {
        try await withImage([]) { root, layers throws in
            #expect(layers.count == 1)
            #expect(try root.names("").isEmpty)
            #expect(try root.status("").st_mode == S_IFDIR | 0o755)
        }
    }
}
