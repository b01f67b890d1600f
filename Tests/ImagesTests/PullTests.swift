import Errors
import Foundation
import Support
import Testing

@testable import Images

/// Pulls from Debian's docker-registry.
@Suite struct PullTests {
    private func withRegistry(password: Bool = false, _ body: (TestRegistry) async throws -> Void) async throws {
        let registry = try await TestRegistry.start(withPassword: password)
        defer { registry.stop() }
        try await body(registry)
    }

    @Test(arguments: [OCIImageBuilder.Format.oci, .docker], OCIImageBuilder.Compression.allCases)
    func imageArrivesWhole(_ format: OCIImageBuilder.Format, _ compression: OCIImageBuilder.Compression) async throws {
        // Docker's own media types know no zstd.
        if format == .docker, compression == .zstd { return }
        let content = noise(200_000, seed: 7)
        var builder = OCIImageBuilder(layers: [layer("low", content), layer("high", "high")])
        builder.format = format
        builder.compression = compression
        builder.entrypoint = ["/bin/entry"]
        builder.user = "1000:1000"
        builder.workingDir = "/work"
        builder.stopSignal = "SIGINT"
        builder.labels = ["a": "b"]
        let built = try builder.build()
        try await withRegistry { registry in
            try await registry.push(built, "some/image", tag: "v1")
            try await withStore { store, directory async throws in
                let image = try await store.pull("\(registry.host)/some/image:v1", auth: nil)
                #expect(image.id == built.id)
                #expect(image.repoTags == ["\(registry.host)/some/image:v1"])
                #expect(image.repoDigests == ["\(registry.host)/some/image@\(built.manifest.digest)"])
                #expect(image.user == ImageUser("1000"))
                let config = try await store.config(of: image.id)
                #expect(config.entrypoint == ["/bin/entry"])
                #expect(config.cmd == ["/bin/sh"])
                #expect(config.workingDir == "/work")
                #expect(config.stopSignal == "SIGINT")
                #expect(config.labels == ["a": "b"])
                let rootfs = try await store.rootfs(of: image.id)
                #expect(rootfs.layers.count == 2)
                try MountedImage.with(rootfs.layers[0].path) { mounted throws in
                    #expect(try mounted.contents("low") == content)
                }
                try MountedImage.with(rootfs.layers[1].path) { mounted throws in
                    #expect(try mounted.contents("high") == Data("high".utf8))
                }
                #expect(directory.stored.count == 2)
                let usage = try await store.filesystemUsage()
                #expect(usage.inodesUsed == 2)
                #expect(usage.usedBytes >= 200_000)
                #expect(image.size >= 200_000)
            }
        }
    }

    @Test(arguments: [OCIImageBuilder.Format.oci, .docker])
    func indexGivesTheMachinesImage(_ format: OCIImageBuilder.Format) async throws {
        var builder = OCIImageBuilder(layers: [layer("file", "mine")])
        builder.format = format
        let mine = try builder.build()
        builder.architecture = "s390x"
        let other = try builder.build()
        let index = try OCIImageBuilder.index(of: [other, mine], format: format)
        let foreign = try OCIImageBuilder.index(of: [other], format: format)
        try await withRegistry { registry in
            try await registry.push(index: index, of: [other, mine], "multi")
            try await registry.push(index: foreign, of: [other], "multi", tag: "foreign")
            try await registry.push(other, "multi", tag: "single")
            try await withStore { store, directory async throws in
                let image = try await store.pull("\(registry.host)/multi", auth: nil)
                #expect(image.id == mine.id)
                #expect(image.repoDigests == ["\(registry.host)/multi@\(index.digest)"])
                let stored = directory.stored
                let error = await #expect(throws: SwiftletError.self) {
                    try await store.pull("\(registry.host)/multi:foreign", auth: nil)
                }
                #expect(error?.code == .failedPrecondition)
                #expect(error?.message.contains("s390x") == true)
                #expect(directory.stored == stored)
                // It may be meant as a volume; no container is made of it.
                #expect(try await store.pull("\(registry.host)/multi:single", auth: nil).id == other.id)
                #expect(try await store.config(of: other.id).runs(on: .current) == false)
            }
        }
    }

    @Test func digestsNameImagesToo() async throws {
        let built = try OCIImageBuilder(layers: [layer("file", "x")]).build()
        try await withRegistry { registry in
            try await registry.push(built, "by/digest")
            try await withStore { store, _ async throws in
                let name = "\(registry.host)/by/digest@\(built.manifest.digest)"
                let image = try await store.pull(name, auth: nil)
                #expect(image.repoTags.isEmpty)
                #expect(image.repoDigests == [name])
                #expect(try await store.status(name)?.id == built.id)
                #expect(try await store.pull("\(registry.host)/by/digest:latest@\(built.manifest.digest)", auth: nil).id == built.id)
                let wrong = "\(registry.host)/by/digest@sha256:\(String(repeating: "0", count: 64))"
                let error = await #expect(throws: SwiftletError.self) { try await store.pull(wrong, auth: nil) }
                #expect(error?.code == .notFound)
            }
        }
    }

    @Test func basicAuthenticationIsAnswered() async throws {
        let built = try OCIImageBuilder(layers: [layer("file", "private")]).build()
        try await withRegistry(password: true) { registry in
            try await registry.push(built, "private")
            try await withStore { store, _ async throws in
                let name = "\(registry.host)/private"
                let (user, password) = TestRegistry.credentials
                for auth in [
                    nil, RegistryAuth(username: user, password: "wrong"),
                    RegistryAuth(username: user, password: password, serverAddress: "elsewhere.example"),
                ] {
                    let error = await #expect(throws: SwiftletError.self) { try await store.pull(name, auth: auth) }
                    #expect(error?.code == .unauthenticated)
                }
                let encoded = Data("\(user):\(password)".utf8).base64EncodedString()
                #expect(try await store.pull(name, auth: RegistryAuth(auth: encoded)).id == built.id)
                let image = try await store.pull(
                    name, auth: RegistryAuth(username: user, password: password, serverAddress: "http://\(registry.host)/v1/"))
                #expect(image.id == built.id)
            }
        }
    }

    @Test func absentImagesAndRegistriesAreToldApart() async throws {
        try await withRegistry { registry in
            try await withStore({ $0.attempts = 2 }) { store, directory async throws in
                let absent = await #expect(throws: SwiftletError.self) { try await store.pull("\(registry.host)/nothing:here", auth: nil) }
                #expect(absent?.code == .notFound)
                registry.stop()
                let down = await #expect(throws: SwiftletError.self) { try await store.pull("\(registry.host)/nothing:here", auth: nil) }
                #expect(down?.code == .unavailable)
                #expect(down?.message.hasPrefix("RegistryUnavailable: ") == true)
                let bad = await #expect(throws: SwiftletError.self) { try await store.pull("Not A Name", auth: nil) }
                #expect(bad?.code == .invalidArgument)
                #expect(directory.stored.isEmpty)
            }
        }
    }

    @Test func movedTagsLeaveTheOldImageItsDigest() async throws {
        let old = try OCIImageBuilder(layers: [layer("base", "base"), layer("file", "old")]).build()
        let new = try OCIImageBuilder(layers: [layer("base", "base"), layer("file", "new")]).build()
        try await withRegistry { registry in
            try await withStore { store, directory async throws in
                let name = "\(registry.host)/moving:latest"
                try await registry.push(old, "moving")
                _ = try await store.pull(name, auth: nil)
                try await registry.push(new, "moving")
                #expect(try await store.pull(name, auth: nil).id == new.id)
                #expect(try await store.status(name)?.id == new.id)
                let left = try #require(await store.status(old.id))
                #expect(left.repoTags.isEmpty)
                #expect(left.repoDigests.count == 1)
                // The base is shared.
                #expect(directory.stored.count == 3)
                #expect(try await store.list(filter: nil).count == 2)
                try await store.remove(old.id)
                #expect(directory.stored.count == 2)
            }
        }
    }

    @Test func whatTheMirrorsAnsweredIsToldWithTheRegistrysRefusal() async throws {
        try await withRegistry { registry in
            let registries = [RegistryConfiguration(host: "127.0.0.1:1", mirrors: [registry.host])]
            try await withStore({
                // A host that refuses is not asked again.
                $0.registries = registries; $0.attempts = 4; $0.retryDelay = .seconds(30)
            }) { store, _ async throws in
                let error = await #expect(throws: SwiftletError.self) { _ = try await store.pull("127.0.0.1:1/team/none", auth: nil) }
                #expect(error?.code == .unavailable && error?.message.contains("Connection refused (errno 111)") == true)
                #expect(error?.message.contains("mirror \(registry.host)") == true && error?.message.contains("not found") == true)
            }
        }
    }

    @Test func mirrorsAreAskedFirst() async throws {
        let built = try OCIImageBuilder(layers: [layer("file", "mirrored")]).build()
        try await withRegistry { registry in
            try await registry.push(built, "team/app")
            let registries = [RegistryConfiguration(host: "registry.invalid", mirrors: ["127.0.0.1:1", registry.host])]
            try await withStore({
                $0.registries = registries; $0.attempts = 1
            }) { store, _ async throws in
                let image = try await store.pull("registry.invalid/team/app", auth: nil)
                #expect(image.repoTags == ["registry.invalid/team/app:latest"])
            }
        }
    }
}
