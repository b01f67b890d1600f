import Errors
import Foundation
import Support
import Testing

@testable import Images

/// Registries that fail or lie: the error says what is wrong with which layer, and nothing stays behind.
@Suite struct LyingRegistryTests {
    private func withFake(
        _ change: (inout ImageStoreConfiguration) -> Void = { _ in }, _ body: (FakeRegistry, ImageStore, URL) async throws -> Void
    ) async throws {
        try await FakeRegistry.with { registry async throws in
            try await withStore(change) { try await body(registry, $0, $1) }
        }
    }

    /// Expects the pull to fail without leaving a file or record.
    private func failure(_ store: ImageStore, _ name: String, _ directory: URL, auth: RegistryAuth? = nil) async throws -> SwiftletError {
        let error = try #require(await #expect(throws: SwiftletError.self) { try await store.pull(name, auth: auth) })
        #expect(directory.stored.isEmpty)
        #expect(try await store.list(filter: nil).isEmpty)
        #expect(try await store.database.read { try $0.tableNamesWithRows }.isEmpty)
        return error
    }

    private let image: BuiltImage
    private let bad: BuiltImage.Blob

    init() throws {
        image = try OCIImageBuilder(layers: [layer("good", "good"), layer("bad", noise(300_000))]).build()
        bad = image.layers[1]
    }

    private func isBad(_ request: FakeRegistry.Request) -> Bool { request.path.contains(bad.digest) }

    @Test func truncatedLayerIsDataLoss() async throws {
        try await withFake { [bad] registry, store, directory async throws in
            registry.add(image, "app")
            registry.script { request in
                guard request.path.contains(bad.digest) else { return nil }
                return .init(body: bad.bytes.prefix(1000), announcedLength: bad.bytes.count, ending: .close)
            }
            let error = try await failure(store, "\(registry.host)/app", directory)
            #expect(error.code == .dataLoss)
            #expect(error.message.contains(bad.digest))
            #expect(error.message.contains("truncated"))
        }
    }

    @Test func shortLayerWithConsistentLengthIsDataLoss() async throws {
        try await withFake { [bad] registry, store, directory async throws in
            registry.add(image, "app")
            registry.script { $0.path.contains(bad.digest) ? .init(body: bad.bytes.prefix(1000)) : nil }
            let error = try await failure(store, "\(registry.host)/app", directory)
            #expect(error.code == .dataLoss)
            #expect(error.message.contains("ends after 1000 bytes"))
        }
    }

    @Test func longLayerIsDataLoss() async throws {
        try await withFake { [bad] registry, store, directory async throws in
            registry.add(image, "app")
            registry.script { $0.path.contains(bad.digest) ? .init(body: bad.bytes + Data(count: 1)) : nil }
            let error = try await failure(store, "\(registry.host)/app", directory)
            #expect(error.code == .dataLoss)
            #expect(error.message.contains("more bytes than"))
        }
    }

    @Test func wrongContentIsDataLoss() async throws {
        try await withFake { [bad] registry, store, directory async throws in
            registry.add(image, "app")
            registry.script { $0.path.contains(bad.digest) ? .init(body: noise(bad.bytes.count, seed: 99)) : nil }
            let error = try await failure(store, "\(registry.host)/app", directory)
            #expect(error.code == .dataLoss)
            #expect(error.message.contains(bad.digest))
            #expect(error.message.contains("content has the digest"))
        }
    }

    @Test func wrongConfigurationIsDataLoss() async throws {
        try await withFake { [image] registry, store, directory async throws in
            registry.add(image, "app")
            registry.script {
                $0.path.contains(image.config.digest) ? .init(body: Data(repeating: 32, count: image.config.bytes.count)) : nil
            }
            let error = try await failure(store, "\(registry.host)/app", directory)
            #expect(error.code == .dataLoss)
            #expect(error.message.contains("configuration"))
        }
    }

    @Test func wrongDiffIDNamesTheLayer() async throws {
        var builder = OCIImageBuilder(layers: [layer("file", "x")])
        builder.diffIDs = ["sha256:" + String(repeating: "a", count: 64)]
        let lie = try builder.build()
        try await withFake { registry, store, directory async throws in
            registry.add(lie, "app")
            let error = try await failure(store, "\(registry.host)/app", directory)
            #expect(error.code == .dataLoss)
            #expect(error.message.contains(lie.layers[0].digest))
        }
    }

    @Test func layerOfAnotherCompressionThanAnnouncedIsDataLoss() async throws {
        var blob = BuiltImage.Blob(mediaType: image.layers[0].mediaType, bytes: layer("file", "plain"))
        let lie = try OCIImageBuilder.image(config: image.config, layers: [blob, bad], manifestType: image.manifest.mediaType)
        blob.mediaType = "application/vnd.oci.image.layer.v1.tar+bogus"
        let unknown = try OCIImageBuilder.image(config: image.config, layers: [blob, bad], manifestType: image.manifest.mediaType)
        try await withFake { registry, store, directory async throws in
            registry.add(lie, "lie")
            registry.add(unknown, "unknown")
            var error = try await failure(store, "\(registry.host)/lie", directory)
            #expect(error.code == .dataLoss)
            #expect(error.message.contains("compression gzip"))
            error = try await failure(store, "\(registry.host)/unknown", directory)
            #expect(error.code == .dataLoss)
            #expect(error.message.contains("bogus"))
        }
    }

    @Test func damagedGzipIsDataLoss() async throws {
        var bytes = bad.bytes
        bytes.replaceSubrange(5000..<5100, with: Data(repeating: 0, count: 100))
        let blob = BuiltImage.Blob(mediaType: bad.mediaType, bytes: bytes)
        let lie = try OCIImageBuilder.image(config: image.config, layers: [image.layers[0], blob], manifestType: image.manifest.mediaType)
        try await withFake { registry, store, directory async throws in
            registry.add(lie, "app")
            let error = try await failure(store, "\(registry.host)/app", directory)
            #expect(error.code == .dataLoss)
            #expect(error.message.contains(blob.digest))
        }
    }

    @Test func hostileLayerIsNamedWithItsEntry() async throws {
        let evil = try OCIImageBuilder(layers: [layer("fine", "fine"), layer("../../etc/cron.d/evil", "x")]).build()
        try await withFake { registry, store, directory async throws in
            registry.add(evil, "app")
            let error = try await failure(store, "\(registry.host)/app", directory)
            #expect(error.code == .invalidArgument)
            #expect(error.message.contains("../../etc/cron.d/evil"))
            #expect(error.message.contains(evil.layers[1].digest))
        }
    }

    @Test(arguments: [
        (#"{"schemaVersion":1}"#, SwiftletError.Code.unimplemented), ("not json", .dataLoss), ("{}", .dataLoss), ("[]", .dataLoss),
        (#"{"schemaVersion":2,"layers":[]}"#, .dataLoss), (#"{"schemaVersion":2,"manifests":[]}"#, .failedPrecondition),
        (#"{"schemaVersion":2,"mediaType":"text/html","layers":[]}"#, .dataLoss),
        (#"{"schemaVersion":2,"config":{"digest":"sha256:../../x","size":1},"layers":[]}"#, .invalidArgument),
        (String(repeating: "[", count: 1 << 20), .dataLoss), (String(repeating: " ", count: 5 << 20), .resourceExhausted),
    ]) func nonsenseManifestsAreRefused(_ text: String, _ code: SwiftletError.Code) async throws {
        try await withFake { registry, store, directory async throws in
            registry.script { $0.path.contains("/manifests/") ? .json(text) : nil }
            let error = try await failure(store, "\(registry.host)/app", directory)
            #expect(error.code == code, "\(error)")
        }
    }

    @Test func silenceEndsWithTheProgressTimeout() async throws {
        try await withFake({
            $0.progressTimeout = .milliseconds(200); $0.attempts = 2
        }) { [bad] registry, store, directory async throws in
            registry.add(image, "app")
            registry.script {
                $0.path.contains(bad.digest) ? .init(body: bad.bytes.prefix(1000), announcedLength: bad.bytes.count, ending: .hang) : nil
            }
            let error = try await failure(store, "\(registry.host)/app", directory)
            #expect(error.code == .unavailable)
            #expect(error.message.hasPrefix("RegistryUnavailable: "))
            #expect(error.message.contains("no progress"))
        }
    }

    @Test func cancelledPullEndsAndLeavesNothing() async throws {
        try await withFake { [bad] registry, store, directory async throws in
            registry.add(image, "app")
            let (asked, ask) = AsyncStream<Void>.makeStream()
            registry.script { request in
                guard request.path.contains(bad.digest) else { return nil }
                ask.yield()
                return .init(body: bad.bytes.prefix(1000), announcedLength: bad.bytes.count, ending: .hang)
            }
            let pull = Task { try await store.pull("\(registry.host)/app", auth: nil) }
            for await _ in asked { break }
            pull.cancel()
            let result = await pull.result
            #expect(throws: SwiftletError.self) { try result.get() }
            #expect((result.failure as? SwiftletError)?.code == .cancelled)
            #expect(directory.stored.isEmpty)
        }
    }

    @Test func brokenDownloadsAreResumed() async throws {
        try await withFake { [bad] registry, store, _ async throws in
            registry.add(image, "app")
            registry.script { request in
                guard request.path.contains(bad.digest), request.number == 0 else { return nil }
                return .init(body: bad.bytes.prefix(100_000), announcedLength: bad.bytes.count, ending: .close)
            }
            #expect(try await store.pull("\(registry.host)/app", auth: nil).id == image.id)
            let ranges = registry.requests.filter { $0.path.contains(bad.digest) }.map { $0.headers["range"] }
            #expect(ranges.count == 2)
            #expect(ranges.first == .some(nil))
            #expect(ranges.last??.hasPrefix("bytes=") == true)
        }
    }

    @Test func passingFailuresAreRetried() async throws {
        try await withFake { registry, store, _ async throws in
            registry.add(image, "app")
            registry.script { request in
                switch request.number {
                case 0: .json("{}", status: .internalServerError)
                case 1: .json("{}", status: .tooManyRequests, headers: [("retry-after", "0")])
                default: nil
                }
            }
            #expect(try await store.pull("\(registry.host)/app", auth: nil).id == image.id)
        }
    }

    @Test(arguments: [
        (500, SwiftletError.Code.unavailable), (503, .unavailable), (429, .resourceExhausted), (403, .permissionDenied),
        (401, .unauthenticated),
        (404, .notFound), (418, .unknown),
    ]) func statusBecomesACode(_ status: Int, _ code: SwiftletError.Code) async throws {
        try await withFake { registry, store, directory async throws in
            registry.script { _ in
                .json(#"{"errors":[{"code":"SOME","message":"words of\nthe registry"}]}"#, status: .init(statusCode: status))
            }
            let error = try await failure(store, "\(registry.host)/app", directory)
            #expect(error.code == code)
            #expect(error.message.contains("SOME: words of?the registry"))
            #expect(error.message.hasPrefix("RegistryUnavailable: ") == (code == .unavailable))
        }
    }

    @Test func tokenServerGetsTheCredentialsAndTheRegistryTheToken() async throws {
        try await withFake { registry, store, _ async throws in
            registry.add(image, "team/app")
            let host = registry.host
            registry.script { request in
                if request.path.hasPrefix("/token") {
                    let login = Data("user:pass".utf8).base64EncodedString()
                    let isRight =
                        request.headers["authorization"] == "Basic \(login)"
                        || request.body.contains("grant_type=refresh_token") && request.body.contains("refresh_token=id%2Btoken")
                    return isRight && (request.path + request.body).contains("repository:team/app:pull")
                        ? .json(#"{"token":"the-token"}"#) : .json("{}", status: .unauthorized)
                }
                if request.headers["authorization"] == "Bearer the-token" || request.headers["authorization"] == "Bearer ready" {
                    return nil
                }
                let challenge = #"Bearer realm="http://\#(host)/token?x=1",service="the, service",scope="repository:team/app:pull""#
                return .json("{}", status: .unauthorized, headers: [("www-authenticate", challenge)])
            }
            let name = "\(host)/team/app"
            #expect(try await store.pull(name, auth: RegistryAuth(username: "user", password: "pass")).id == image.id)
            #expect(registry.count("/token") == 1)
            #expect(try await store.pull(name, auth: RegistryAuth(identityToken: "id+token")).id == image.id)
            #expect(try await store.pull(name, auth: RegistryAuth(registryToken: "ready")).id == image.id)
            #expect(registry.count("/token") == 2)
            let error = await #expect(throws: SwiftletError.self) {
                try await store.pull(name, auth: RegistryAuth(username: "user", password: "no"))
            }
            #expect(error?.code == .unauthenticated)
        }
    }

    @Test func credentialsDoNotFollowRedirectsToOtherHosts() async throws {
        try await withFake { registry, store, _ async throws in
            try await FakeRegistry.with { storage async throws in
                registry.add(image, "app")
                storage.add(image, "app")
                let login = "Basic \(Data("user:pass".utf8).base64EncodedString())"
                registry.script { [host = storage.host] request in
                    guard request.headers["authorization"] == login else {
                        return .json("{}", status: .unauthorized, headers: [("www-authenticate", "Basic realm=\"x\"")])
                    }
                    guard request.path.contains("/blobs/") else { return nil }
                    return .init(status: .temporaryRedirect, headers: [("location", "http://\(host)\(request.path)")])
                }
                #expect(try await store.pull("\(registry.host)/app", auth: RegistryAuth(username: "user", password: "pass")).id == image.id)
                #expect(storage.count("/blobs/") == 3)
                #expect(storage.requests.allSatisfy { $0.headers["authorization"] == nil })
            }
        }
    }

    /// The node reaches more than a registry's owner does.
    @Test(arguments: [
        "http://169.254.169.254/latest/meta-data?x=secret", "http://0xa9fea9fe/latest", "http://[::ffff:169.254.169.254]/",
        "file:///etc/passwd",
    ])
    func redirectsAndTokenServersLeadToNoMetadataServer(_ target: String) async throws {
        try await withFake({ $0.attempts = 1 }) { registry, store, directory async throws in
            registry.add(image, "app")
            registry.script { request in
                request.path.contains("/blobs/") ? .init(status: .temporaryRedirect, headers: [("location", target)]) : nil
            }
            let redirect = try await failure(store, "\(registry.host)/app", directory)
            #expect(redirect.code == .permissionDenied && !redirect.message.contains("secret"), "\(redirect.message)")
            registry.script { _ in
                .json("{}", status: .unauthorized, headers: [("www-authenticate", "Bearer realm=\"\(target)\",service=\"x\"")])
            }
            let realm = try await failure(store, "\(registry.host)/app", directory)
            #expect([.permissionDenied, .unauthenticated].contains(realm.code) && !realm.message.contains("secret"), "\(realm.message)")
        }
    }

    @Test func redirectLoopsEnd() async throws {
        try await withFake({ $0.attempts = 1 }) { registry, store, directory async throws in
            registry.script { .init(status: .temporaryRedirect, headers: [("location", $0.path + "x")]) }
            _ = try await failure(store, "\(registry.host)/app", directory)
            #expect(registry.requests.count <= 6)
        }
    }

    @Test func equalPullsAndLayersInFlightAreOne() async throws {
        let other = try OCIImageBuilder(layers: [layer("good", "good"), layer("bad", noise(300_000)), layer("third", "third")]).build()
        try await withFake { registry, store, _ async throws in
            registry.add(image, "app")
            registry.add(other, "other")
            try await withThrowingTaskGroup { group in
                for index in 0..<20 {
                    let name = index.isMultiple(of: 2) ? "app" : "other"
                    group.addTask { try await store.pull("\(registry.host)/\(name)", auth: nil) }
                }
                try await group.waitForAll()
            }
            for digest in Set((image.layers + other.layers).map(\.digest)) { #expect(registry.count(digest) == 1) }
            #expect(registry.count("/manifests/") <= 20)
            #expect(try await store.list(filter: nil).count == 2)
        }
    }
}

extension Result {
    var failure: Failure? {
        if case .failure(let error) = self { error } else { nil }
    }
}
