import Errors
import Foundation
import GRDB
import Support
import Testing

@testable import Images

extension Database {
    /// Tables that hold anything.
    var tableNamesWithRows: [String] {
        get throws {
            try ["image", "imageName", "imageLayer", "layer", "imageLease"].filter {
                try Int.fetchOne(self, sql: "SELECT count(*) FROM \($0)") != 0
            }
        }
    }
}

@Suite struct StoreTests {
    private func archive(_ images: [(name: String, image: BuiltImage)], _ directory: URL, _ name: String = "image.tar") throws -> String {
        try directory.file(name, OCIImageBuilder.archive(images))
    }

    @Test func archivesAndLayoutsLoad() async throws {
        let first = try OCIImageBuilder(layers: [layer("file", "first")]).build()
        let second = try OCIImageBuilder(layers: [layer("file", "first"), layer("other", "second")]).build()
        try await withStore { store, directory async throws in
            let both = try archive([("one:v1", first), ("quay.io/two:v2", second)], directory)
            let images = try await store.load(path: both, reference: nil)
            #expect(images.map(\.id) == [first.id, second.id])
            #expect(images.map(\.repoTags) == [["docker.io/library/one:v1"], ["quay.io/two:v2"]])
            #expect(images[0].repoDigests == ["docker.io/library/one@\(first.manifest.digest)"])
            #expect(directory.stored.count == 2)

            for (path, content) in try OCIImageBuilder.layout([("v3", first)]) { _ = try directory.file("layout/\(path)", content) }
            let named = try await store.load(path: directory.appendingPathComponent("layout").path, reference: "mine")
            #expect(named.first?.repoTags == ["docker.io/library/mine:latest", "docker.io/library/one:v1"])

            let packed = try directory.file("packed.tar.gz", OCIImageBuilder.compress(Data(contentsOf: URL(fileURLWithPath: both)), .gzip))
            #expect(try await store.load(path: packed, reference: nil).count == 2)
            let twoNamed = await #expect(throws: SwiftletError.self) { try await store.load(path: packed, reference: "x") }
            #expect(twoNamed?.code == .invalidArgument)
            #expect(directory.stored.count == 2)
        }
    }

    /// In a store of an earlier release too, which everybody could read.
    @Test(.enabled(if: geteuid() == 0)) func layersAreReadByTheMachinesGroupAlone() async throws {
        let group: UInt32 = 2_001_400_000
        try await withTestDirectory { directory in
            let archive = try archive([("one:v1", OCIImageBuilder(layers: [layer("file", "first")]).build())], directory)
            func expectClosed(_ group: UInt32?) throws {
                let root = directory.appendingPathComponent("images").path
                let file = try #require(directory.stored.first)
                let (pass, read): (mode_t, mode_t) = group == nil ? (0o700, 0o400) : (0o710, 0o440)
                for (path, mode, owner) in [
                    (root, pass, group), ("\(root)/layers", pass, group), ("\(root)/partial", 0o700, nil), ("\(root)/\(file)", read, group),
                ] {
                    var status = stat()
                    #expect(stat(path, &status) == 0 && status.st_mode & 0o7777 == mode, "\(path): \(String(status.st_mode, radix: 8))")
                    #expect(status.st_uid == 0 && status.st_gid == owner ?? status.st_gid, "\(path)")
                }
            }
            try await withStore(in: directory, { $0.group = group }) { store in
                _ = try await store.load(path: archive, reference: nil)
                try expectClosed(group)
            }
            let tree = ["", "/layers", "/partial"].map { directory.appendingPathComponent("images").path + $0 }
            for path in tree { #expect(chmod(path, 0o755) == 0 && chown(path, 0, 0) == 0) }
            let file = try "\(tree[0])/\(#require(directory.stored.first))"
            #expect(chmod(file, 0o444) == 0 && chown(file, 0, 0) == 0)
            try await withStore(in: directory, { $0.group = group }) { _ in try expectClosed(group) }
            try await withStore(in: directory) { _ in try expectClosed(nil) }
        }
    }

    @Test func dockerArchivesLoad() async throws {
        let built = try OCIImageBuilder(layers: [layer("file", "docker"), layer("file", "docker")]).build()
        var tar = TarBuilder()
        tar.file("abc.json", built.config.bytes)
        tar.file("1/layer.tar", layer("file", "docker"))
        tar.symlink("2/layer.tar", to: "../1/layer.tar")
        tar.file("manifest.json", #"[{"Config":"abc.json","RepoTags":["app:v1"],"Layers":["1/layer.tar","2/layer.tar"]}]"#)
        try await withStore { store, directory async throws in
            let images = try await store.load(path: try directory.file("docker.tar", tar.finished()), reference: nil)
            #expect(images.first?.id == built.id)
            #expect(images.first?.repoTags == ["docker.io/library/app:v1"])
            let rootfs = try await store.rootfs(of: built.id)
            #expect(rootfs.layers.count == 1)
        }
    }

    @Test func damagedArchivesLeaveNothing() async throws {
        let built = try OCIImageBuilder(layers: [layer("good", "good"), layer("file", "x")]).build()
        var swapped = built
        swapped.layers[1].bytes = try OCIImageBuilder.compress(layer("file", "y"), .gzip)
        let files = try OCIImageBuilder.layout([("app:v1", built)])
        try await withStore { store, directory async throws in
            var cases: [(path: String, code: SwiftletError.Code)] = [
                ("/nonexistent/file", .notFound), ("/dev/null", .invalidArgument),
                (try directory.file("text", Data("hello".utf8)), .dataLoss),
                (try archive([("app:v1", swapped)], directory, "swapped.tar"), .dataLoss),
                (try directory.file("half.tar", OCIImageBuilder.archive([("app:v1", built)]).prefix(4000)), .dataLoss),
                (try directory.file("empty.tar", TarBuilder().finished()), .invalidArgument),
            ]
            for missing in files.keys where missing.hasPrefix("blobs/") {
                var tar = TarBuilder()
                for (path, content) in files where path != missing { tar.file(path, content) }
                cases.append((try directory.file("without-\(missing.suffix(8)).tar", tar.finished()), .dataLoss))
            }
            for (path, code) in cases {
                let error = await #expect(throws: SwiftletError.self) { try await store.load(path: path, reference: nil) }
                #expect(error?.code == code, "\(path): \(error?.description ?? "")")
                #expect(directory.stored.isEmpty)
                #expect(try await store.database.read { try $0.tableNamesWithRows }.isEmpty)
            }
        }
    }

    /// Small archives whose index names much: each is refused before it takes memory.
    @Test func archivesThatRepeatThemselvesAreRefused() async throws {
        let built = try OCIImageBuilder(layers: [layer("file", "x")]).build()
        var labelled = OCIImageBuilder(layers: [layer("file", "x")])
        labelled.labels = ["filler": String(repeating: "f", count: 900_000)]
        let large = try labelled.build()
        var deep = TarBuilder()
        deep.file("c", built.config.bytes)
        deep.file("l", layer("file", "x"))
        let layers = [String](repeating: "\"l\"", count: 128).joined(separator: ",")
        deep.file("manifest.json", #"[{"Config":"c","RepoTags":["app:v1"],"Layers":[\#(layers)]}]"#)
        var named = TarBuilder()
        for index in 0..<40 { named.file("\(index)" + String(repeating: "n", count: 900_000), "") }
        let cases: [(String, Data, SwiftletError.Code, String)] = [
            (
                "images", try OCIImageBuilder.archive([(String, BuiltImage)](repeating: ("app:v1", built), count: 1001)),
                .resourceExhausted,
                "more than the 1000 images"
            ),
            (
                "configurations", try OCIImageBuilder.archive([(String, BuiltImage)](repeating: ("app:v1", large), count: 100)),
                .resourceExhausted,
                "more than 67108864 bytes"
            ),
            ("layers", deep.finished(), .invalidArgument, "128 layers"),
            ("names", named.finished(), .resourceExhausted, "names of more than"),
        ]
        try await withStore { store, directory async throws in
            for (name, content, code, mentions) in cases {
                let path = try directory.file("\(name).tar", content)
                let error = await #expect(throws: SwiftletError.self) { try await store.load(path: path, reference: nil) }
                #expect(error?.code == code, "\(name): \(error?.description ?? "")")
                #expect(error?.description.contains(mentions) == true, "\(name): \(error?.description ?? "")")
                #expect(directory.stored.isEmpty)
            }
        }
    }

    @Test func imagesAreFoundByEveryName() async throws {
        let built = try OCIImageBuilder(layers: [layer("file", "x")]).build()
        let other = try OCIImageBuilder(layers: [layer("file", "y")]).build()
        try await withStore { store, directory async throws in
            _ = try await store.load(path: try archive([("app:v1", built), ("other:v1", other)], directory), reference: nil)
            let hex = built.id.dropFirst(7)
            for name in [
                "app:v1", "docker.io/library/app:v1", built.id, String(hex), String(hex.prefix(12)), "sha256:\(hex.prefix(12))",
                "app@\(built.manifest.digest)",
            ] {
                #expect(try await store.status(name)?.id == built.id, "\(name)")
                #expect(try await store.list(filter: name).map(\.id) == [built.id])
            }
            for name in ["app", "absent:v1", "sha256:\(String(repeating: "0", count: 64))", "0123456789ab", "app:v1 OR 1=1"] {
                let found = try? await store.status(name)
                #expect(found == nil || found == .some(nil), "\(name)")
            }
            #expect(try await store.list(filter: nil).count == 2)
            #expect(try await store.list(filter: "absent").isEmpty)
        }
    }

    /// As `crictl images REPOSITORY` asks.
    @Test func aRepositoryListsItsImages() async throws {
        let images = try ["x", "y", "z"].map { try OCIImageBuilder(layers: [layer("file", $0)]).build() }
        try await withStore { store, directory async throws in
            let names = ["app:v1", "app:v2", "localhost:5000/app:v1"]
            _ = try await store.load(path: try archive(Array(zip(names, images)), directory), reference: nil)
            #expect(try await Set(store.list(filter: "app").map(\.id)) == Set(images[..<2].map(\.id)))
            #expect(try await store.list(filter: "localhost:5000/app").map(\.id) == [images[2].id])
            let found = try #require(try await store.status("app:v2"))
            #expect(found.digest(named: "app:v2") == "docker.io/library/app@\(images[1].manifest.digest)")
            #expect(found.digest(named: "elsewhere/app") == found.repoDigests.first)
        }
    }

    @Test func removalByOneTagTakesAllAndIsIdempotent() async throws {
        let built = try OCIImageBuilder(layers: [layer("file", "x")]).build()
        try await withStore { store, directory async throws in
            let path = try archive([("app:v1", built)], directory)
            _ = try await store.load(path: path, reference: nil)
            _ = try await store.load(path: path, reference: "app:v2")
            try await store.remove("app:v1")
            #expect(try await store.status("app:v2") == nil)
            #expect(directory.stored.isEmpty)
            try await store.remove("app:v1")
            try await store.remove(built.id)
            #expect(try await store.database.read { try $0.tableNamesWithRows }.isEmpty)
        }
    }

    @Test func leasedLayersOutliveTheImageAndTheDaemon() async throws {
        let built = try OCIImageBuilder(layers: [layer("file", "x")]).build()
        try await withTestDirectory { directory in
            try await withStore(in: directory) { store async throws in
                _ = try await store.load(path: try archive([("app:v1", built)], directory), reference: nil)
                try await store.lease(imageID: built.id, holder: "container-1")
                try await store.lease(imageID: built.id, holder: "container-1")
                try await store.lease(imageID: built.id, holder: "container-2")
                try await store.remove("app:v1")
                #expect(try await store.status(built.id) == nil)
                #expect(try await store.list(filter: nil).isEmpty)
                let refused = await #expect(throws: SwiftletError.self) { try await store.lease(imageID: built.id, holder: "late") }
                #expect(refused?.code == .notFound)
            }
            try await withStore(in: directory) { store async throws in
                #expect(try await store.rootfs(of: built.id).layers.count == 1)
                try await store.releaseLeases(holder: "container-1")
                #expect(directory.stored.count == 1)
                try await store.releaseLeases(holder: "container-2")
                #expect(directory.stored.isEmpty)
                try await store.releaseLeases(holder: "container-2")
                #expect(try await store.database.read { try $0.tableNamesWithRows }.isEmpty)
                let gone = await #expect(throws: SwiftletError.self) { try await store.rootfs(of: built.id) }
                #expect(gone?.code == .notFound)
            }
        }
    }

    @Test func leftoversOfAKilledRunAreCleaned() async throws {
        let built = try OCIImageBuilder(layers: [layer("file", "x"), layer("more", "y")]).build()
        try await withTestDirectory { directory in
            let path = try archive([("app:v1", built)], directory)
            try await withStore(in: directory) { store async throws in
                _ = try await store.load(path: path, reference: nil)
            }
            let images = directory.appendingPathComponent("images")
            let kept = directory.stored
            _ = try images.file("partial/blob-1", Data("half".utf8))
            _ = try images.file("layers/\(String(repeating: "0", count: 64)).erofs", Data("orphan".utf8))
            _ = try images.file("layers/nonsense", Data("orphan".utf8))
            try await withStore(in: directory) { store async throws in
                #expect(directory.stored == kept)
                #expect(try await store.status("app:v1") != nil)
            }
            try FileManager.default.removeItem(at: images.appendingPathComponent(kept[0]))
            try await withStore(in: directory) { store async throws in
                #expect(try await store.status("app:v1") == nil)
                #expect(directory.stored.isEmpty)
                _ = try await store.load(path: path, reference: nil)
                #expect(directory.stored == kept)
            }
        }
    }

    @Test func repeatedAndEmptyLayersCostNoDisk() async throws {
        let empty = TarBuilder().finished()
        let repeated = layer("file", "repeated")
        let built = try OCIImageBuilder(layers: [repeated, empty, layer("file", "between"), repeated, empty]).build()
        let hollow = try OCIImageBuilder(layers: [empty, empty]).build()
        try await withStore { store, directory async throws in
            _ = try await store.load(path: try archive([("app:v1", built), ("hollow:v1", hollow)], directory), reference: nil)
            let layers = try await store.rootfs(of: built.id).layers
            #expect(layers.count == 2)
            #expect(Set(layers.map(\.serial)).count == 2)
            #expect(layers.allSatisfy { $0.serial.utf8.count == 20 && $0.filesystem == "erofs" })
            try MountedImage.with(layers[1].path) { mounted throws in
                #expect(try mounted.contents("file") == Data("repeated".utf8))
            }
            #expect(try await store.rootfs(of: hollow.id).layers.count == 1)
        }
    }
}
