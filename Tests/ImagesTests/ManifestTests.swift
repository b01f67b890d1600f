import Errors
import Foundation
import Linux
import Support
import Testing

@testable import Images

/// Documents as tools write them that only Go programs read, and the choice of an index's entry.
@Suite struct ManifestTests {
    private func config(_ text: String) throws -> ImageConfig { try ImageConfig.decode(Data(text.utf8), what: "x") }

    @Test func configurationsAreReadAsLenientlyAsGoReadsThem() throws {
        let nulls = try config(
            """
            {"architecture":null,"os":"linux","config":{"Env":null,"Cmd":null,"Entrypoint":["/x",null],"User":null,"WorkingDir":null,
             "Labels":{"A":null,"b":"c"},"ExposedPorts":{"80/tcp":null},"Volumes":{"/Data":null},"StopSignal":null},"rootfs":null,
             "history":null}
            """)
        #expect(nulls == ImageConfig(entrypoint: ["/x", ""], labels: ["A": "", "b": "c"], exposedPorts: ["80/tcp"], volumes: ["/Data"]))
        let cased = try config(
            """
            {"Architecture":"amd64","OS":"linux","Config":{"env":["A=b"],"CMD":["/x"],"workingdir":"/w","Labels":{"User":"kept"},
             "user":"7","stopsignal":"SIGINT","volumes":{"/Env":{}}},"RootFS":{"Type":"layers","Diff_IDs":null}}
            """)
        #expect(
            cased
                == ImageConfig(
                    architecture: "amd64", env: ["A=b"], cmd: ["/x"], workingDir: "/w", user: "7", stopSignal: "SIGINT",
                    labels: ["User": "kept"], volumes: ["/Env"]))
        #expect(try config("{}") == ImageConfig(os: ""))
        #expect(try config(#"{"config":null}"#).runs(on: .current))
        let wrong = #expect(throws: SwiftletError.self) { try self.config(#"{"config":{"env":[7]}}"#) }
        #expect(wrong?.code == .dataLoss && wrong?.message.contains("config.Env.0") == true, "\(wrong?.message ?? "")")
    }

    @Test func manifestsAreReadAsLenientlyAsGoReadsThem() throws {
        let digest = "sha256:" + String(repeating: "a", count: 64)
        let text = """
            {"SchemaVersion":2,"MediaType":null,"Config":{"Digest":"\(digest)","SIZE":3,"mediatype":"x","annotations":null},"layers":null,
             "manifests":null}
            """
        guard case .manifest(let manifest) = try ManifestDocument(Data(text.utf8), contentType: nil, what: "x") else {
            return #expect(Bool(false), "a manifest")
        }
        #expect(manifest.config == Descriptor(mediaType: "x", digest: digest, size: 3) && manifest.layers.isEmpty)
        let index = try ManifestDocument(
            Data(#"{"schemaversion":2,"Manifests":[{"digest":"d","Platform":{"OS":"linux","Architecture":null}}]}"#.utf8), contentType: nil,
            what: "x")
        guard case .index(let found) = index else { return #expect(Bool(false), "an index") }
        #expect(found.manifests[0].platform == Descriptor.Platform(architecture: "", os: "linux", variant: ""))
    }

    @Test func anEmptyPlatformIsAnyMachines() {
        for (os, architecture, runs) in [
            ("", "", true), ("linux", "", true), ("", "amd64", true), ("linux", "arm64", false), ("windows", "amd64", false),
        ] {
            #expect(ImageConfig(architecture: architecture, os: os).runs(on: .current) == runs, "\(os)/\(architecture)")
        }
    }

    private func entry(_ name: String, _ platform: String?, type: String = MediaType.ociManifest) -> Descriptor {
        let parts = platform?.split(separator: "/").map(String.init)
        let found = parts.map { Descriptor.Platform(architecture: $0[1], os: $0[0], variant: $0.count > 2 ? $0[2] : "") }
        return Descriptor(mediaType: type, digest: name, size: 1, platform: found)
    }

    private func order(_ entries: [Descriptor], platform: Platform = .current, cpuLevel: Int = 3) -> [String] {
        var search = ManifestSearch(platform: platform, cpuLevel: cpuLevel, what: "x")
        #expect(search.take(.index(ManifestIndex(manifests: entries))) == nil)
        var found: [String] = []
        while let next = try? search.next() { found.append(next.digest + (search.mustCheckConfiguration ? "?" : "")) }
        return found
    }

    @Test func theHighestVariantOfTheCPUIsTaken() {
        let entries = [
            entry("arm", "linux/arm64/v8"), entry("plain", "linux/amd64"), entry("v4", "linux/amd64/v4"), entry("v2", "linux/amd64/v2"),
            entry("v3", "linux/amd64/v3"), entry("odd", "linux/amd64/haswell"), entry("win", "windows/amd64"),
        ]
        #expect(order(entries) == ["v3", "v2", "plain"])
        #expect(order(entries, cpuLevel: 2) == ["v2", "plain"])
        #expect(order(entries, cpuLevel: 1) == ["plain"])
        var arm = Platform.current
        (arm.architecture, arm.machine) = ("arm64", "aarch64")
        #expect(order(entries, platform: arm, cpuLevel: 1) == ["arm"])
    }

    @Test func theCPUsLevelIsThatOfItsFlags() {
        let second = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
        let third = "abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"
        for (flags, level) in [
            ("fpu sse2", 1), (second, 2), ("\(second) avx2", 2), ("\(second) \(third)", 3), ("\(second) \(third) avx512f avx512vl", 3),
            (third, 1),
        ] {
            #expect(CPULevel.of(cpuinfo: "processor\t: 0\nflags\t\t: \(flags)\nbugs\t\t:\n") == level, "\(flags)")
        }
    }

    @Test func attestationsAreNoImagesAndUnnamedEntriesAreLookedInto() {
        var attestation = entry("attestation", nil)
        attestation.annotations = ["vnd.docker.reference.type": "attestation-manifest"]
        let unknown = entry("unknown", "unknown/unknown")
        #expect(order([attestation, entry("only", nil), unknown]) == ["only"])
        #expect(order([entry("first", nil), unknown, entry("second", nil)]) == ["first?", "second?"])
        #expect(order([entry("other", "linux/s390x"), entry("unnamed", nil)]) == ["unnamed?"])
        #expect(order([entry("unnamed", nil), entry("mine", "linux/amd64")]) == ["mine", "unnamed?"])
        #expect(order([entry("artifact", nil, type: "application/vnd.example"), entry("other", "linux/s390x")]).isEmpty)
    }

    /// An image, an index of it, and so on.
    private func nested(_ image: BuiltImage, depth: Int) throws -> [BuiltImage.Blob] {
        var blobs = [image.manifest]
        for _ in 0..<depth {
            let inner = blobs[blobs.count - 1]
            let text = """
                {"schemaVersion":2,"mediaType":"\(MediaType.ociIndex)","manifests":[{"mediaType":"\(inner.mediaType)",
                 "digest":"\(inner.digest)","size":\(inner.bytes.count)}]}
                """
            blobs.append(BuiltImage.Blob(mediaType: MediaType.ociIndex, bytes: Data(text.utf8)))
        }
        return blobs
    }

    @Test func indexesMayBeWithinIndexes() async throws {
        let image = try OCIImageBuilder(layers: [layer("file", "x")]).build()
        try await FakeRegistry.with { registry async throws in
            try await withStore { store, directory async throws in
                for (depth, works) in [(1, true), (4, true), (5, false)] {
                    let documents = try nested(image, depth: depth)
                    registry.add(image, "app", tag: "inner")
                    registry.script { request in
                        guard request.path.contains("/manifests/") else { return nil }
                        let top = request.path.hasSuffix("/latest") ? documents.last : nil
                        guard let found = top ?? documents.first(where: { request.path.hasSuffix($0.digest) }) else { return nil }
                        return .init(headers: [("content-type", found.mediaType)], body: found.bytes)
                    }
                    if works {
                        #expect(try await store.pull("\(registry.host)/app", auth: nil).id == image.id)
                        try await store.remove(image.id)
                    } else {
                        let error = await #expect(throws: SwiftletError.self) { try await store.pull("\(registry.host)/app", auth: nil) }
                        #expect(error?.code == .resourceExhausted && directory.stored.isEmpty, "\(error?.message ?? "")")
                    }
                    // The same from a layout.
                    var files = try OCIImageBuilder.layout([("app:v1", image)])
                    for document in documents { files["blobs/sha256/\(document.digest.dropFirst(7))"] = document.bytes }
                    files["index.json"] = try nested(image, depth: depth + 1).last?.bytes
                    var tar = TarBuilder()
                    for (path, content) in files { tar.file(path, content) }
                    let path = try directory.file("layout-\(depth).tar", tar.finished())
                    if works {
                        #expect(try await store.load(path: path).map(\.id) == [image.id])
                        try await store.remove(image.id)
                    } else {
                        await #expect(throws: SwiftletError.self) { try await store.load(path: path) }
                    }
                }
            }
        }
    }

    @Test func entriesWithoutAPlatformAreTakenByTheirConfiguration() async throws {
        var builder = OCIImageBuilder(layers: [layer("file", "x")])
        let mine = try builder.build()
        builder.architecture = "s390x"
        let other = try builder.build()
        func index(_ images: [BuiltImage]) -> BuiltImage.Blob {
            let entries = images.map {
                #"{"mediaType":"\#($0.manifest.mediaType)","digest":"\#($0.manifest.digest)","size":\#($0.manifest.bytes.count)}"#
            }
            return BuiltImage.Blob(
                mediaType: MediaType.ociIndex,
                bytes: Data(#"{"schemaVersion":2,"manifests":[\#(entries.joined(separator: ","))]}"#.utf8))
        }
        try await FakeRegistry.with { registry async throws in
            try await withStore { store, _ async throws in
                for image in [mine, other] { registry.add(image, "app", tag: image.platform) }
                let top = index([other, mine])
                registry.script { request in
                    request.path.hasSuffix("/manifests/latest") ? .init(headers: [("content-type", top.mediaType)], body: top.bytes) : nil
                }
                #expect(try await store.pull("\(registry.host)/app", auth: nil).id == mine.id)
            }
        }
    }

    /// An artifact of these layers, the first of which has a title.
    private func artifact(_ layers: [BuiltImage.Blob], titled title: String, config: String) throws -> BuiltImage {
        let config = BuiltImage.Blob(mediaType: config, bytes: Data("{}".utf8))
        var artifact = try OCIImageBuilder.image(config: config, layers: layers, manifestType: MediaType.ociManifest)
        let digest = #""digest":"\#(layers[0].digest)""#
        let text = String(decoding: artifact.manifest.bytes, as: UTF8.self)
            .replacing(digest, with: #""annotations":{"org.opencontainers.image.title":"\#(title)"},\#(digest)"#)
        artifact.manifest = BuiltImage.Blob(mediaType: MediaType.ociManifest, bytes: Data(text.utf8))
        return artifact
    }

    @Test(arguments: [("disk.qcow2", "application/octet-stream"), ("", "application/vnd.example.qcow2"), ("d.img.gz", "application/gzip")])
    func anArtifactOfOneDiskIsADisk(_ title: String, _ type: String) async throws {
        let disk = Data(QcowBuilder().built())
        let bytes = title.hasSuffix(".gz") ? try OCIImageBuilder.compress(disk, .gzip) : disk
        let artifact = try artifact([.init(mediaType: type, bytes: bytes)], titled: title, config: MediaType.emptyConfig)
        try await FakeRegistry.with { registry async throws in
            registry.add(artifact, "vm")
            try await withStore { store, directory async throws in
                let image = try await store.pull("\(registry.host)/vm")
                #expect(directory.stored.count == 1)
                #expect(try await store.rootfs(of: image.id).content.disk?.digest == OCIImageBuilder.digest(disk))
                #expect(try await store.rootfs(of: image.id).content.disk?.format == .qcow2)
                #expect(try await store.pull("\(registry.host)/vm").id == image.id)
                #expect(registry.count(artifact.layers[0].digest) == 1)
            }
        }
    }

    @Test(arguments: [
        ("logo.img", "application/octet-stream", Data("no disk".utf8), "which is a disk by its title \"logo.img\": its size of 7 bytes"),
        ("", "application/vnd.example.qcow2", Data(count: 512), "which is a disk by its media type: it is no qcow2 image"),
        ("d.qcow2", "application/octet-stream", Data(count: 512), "which is a disk by its title \"d.qcow2\": it is no qcow2 image"),
    ]) func anArtifactThatIsCalledADiskAndIsNoneSaysWhy(_ title: String, _ type: String, _ bytes: Data, _ reason: String) async throws {
        let artifact = try artifact([.init(mediaType: type, bytes: bytes)], titled: title, config: MediaType.emptyConfig)
        try await FakeRegistry.with { registry async throws in
            registry.add(artifact, "vm")
            try await withStore { store, directory async throws in
                let error = await #expect(throws: SwiftletError.self) { try await store.pull("\(registry.host)/vm") }
                #expect(error?.code == .invalidArgument && error?.message.contains(reason) == true, "\(String(describing: error))")
                #expect(directory.stored.isEmpty)
            }
        }
    }

    @Test func artifactsAreTheFilesOfTheirLayers() async throws {
        let weights = BuiltImage.Blob(mediaType: "application/vnd.example.weights", bytes: noise(100_000))
        let untitled = BuiltImage.Blob(mediaType: "text/plain", bytes: Data("words".utf8))
        let tree = BuiltImage.Blob(
            mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
            bytes: try OCIImageBuilder.compress(layer("docs/readme", "read"), .gzip))
        let artifact = try artifact([weights, untitled, tree], titled: "models/weights.bin", config: MediaType.emptyConfig)
        try await FakeRegistry.with { registry async throws in
            registry.add(artifact, "model")
            registry.add(artifact, "model", tag: "again")
            try await withStore { store, directory async throws in
                let image = try await store.pull("\(registry.host)/model", auth: nil)
                #expect(image.repoDigests == ["\(registry.host)/model@\(artifact.manifest.digest)"])
                let layers = try await store.rootfs(of: image.id).layers
                #expect(layers.count == 3)
                try MountedImage.with(layers[0].path) { mounted throws in
                    #expect(try mounted.contents("models/weights.bin") == weights.bytes)
                    #expect(try mounted.status("models/weights.bin").st_mode == S_IFREG | 0o644)
                }
                try MountedImage.with(layers[1].path) { mounted throws in
                    #expect(try mounted.contents(String(untitled.digest.dropFirst(7))) == untitled.bytes)
                }
                try MountedImage.with(layers[2].path) { mounted throws in #expect(try mounted.contents("docs/readme") == Data("read".utf8))
                }
                let blobs = registry.count("/blobs/")
                let again = try await store.pull("\(registry.host)/model:again", auth: nil)
                #expect(again.id == image.id && again.repoTags.count == 2)
                #expect(registry.count("/blobs/") == blobs, "nothing is fetched twice")
                try await store.remove(image.id)
                #expect(directory.stored.isEmpty)
                #expect(try await store.database.read { try $0.tableNamesWithRows }.isEmpty)
            }
        }
    }

    @Test func anArtifactsNamesLeadNowhereElse() async throws {
        let file = BuiltImage.Blob(mediaType: "text/plain", bytes: Data("words".utf8))
        let artifact = try artifact([file], titled: "../../etc/passwd", config: "application/vnd.example.config.v1+json")
        try await FakeRegistry.with { registry async throws in
            registry.add(artifact, "model")
            try await withStore { store, directory async throws in
                let error = await #expect(throws: SwiftletError.self) { try await store.pull("\(registry.host)/model", auth: nil) }
                #expect(error?.code == .invalidArgument && error?.message.contains("leads out") == true, "\(error?.message ?? "")")
                #expect(directory.stored.isEmpty)
            }
        }
    }
}
