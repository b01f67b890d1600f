import Errors
import Foundation
import Support
import Testing

@testable import Images

/// Answers of real registries and their storage that are neither lies nor what the specification has first.
@Suite struct RegistryAnswersTests {
    private func withFake(
        _ change: (inout ImageStoreConfiguration) -> Void = { _ in }, _ body: (FakeRegistry, ImageStore, URL) async throws -> Void
    ) async throws {
        try await FakeRegistry.with { registry async throws in
            try await withStore(change) { try await body(registry, $0, $1) }
        }
    }

    @Test func aDownloadThatCannotBeResumedBeginsAnew() async throws {
        let image = try OCIImageBuilder(layers: [layer("big", noise(300_000))]).build()
        let big = image.layers[0]
        try await withFake { registry, store, _ async throws in
            registry.add(image, "app")
            registry.script { request in
                guard request.path.contains(big.digest) else { return nil }
                if request.headers["range"] != nil { return .init(status: .rangeNotSatisfiable, body: Data("no parts".utf8)) }
                return request.number == 0
                    ? .init(body: big.bytes.prefix(100_000), announcedLength: big.bytes.count, ending: .close) : nil
            }
            #expect(try await store.pull("\(registry.host)/app", auth: nil).id == image.id)
            let ranges = registry.requests.filter { $0.path.contains(big.digest) }.map { $0.headers["range"] != nil }
            #expect(ranges == [false, true, false])
        }
    }

    @Test(arguments: [("gzip", OCIImageBuilder.Compression.gzip), ("x-gzip", .gzip), ("zstd", .zstd), ("identity", .none)])
    func documentsMayBeCompressedOnTheirWay(_ name: String, _ compression: OCIImageBuilder.Compression) async throws {
        let image = try OCIImageBuilder(layers: [layer("file", "x")]).build()
        let manifest = try OCIImageBuilder.compress(image.manifest.bytes, compression)
        let config = try OCIImageBuilder.compress(image.config.bytes, compression)
        try await withFake { registry, store, _ async throws in
            registry.add(image, "app")
            registry.script { request in
                if request.path.contains("/manifests/") {
                    return .init(headers: [("content-type", image.manifest.mediaType), ("content-encoding", name)], body: manifest)
                }
                return request.path.contains(image.config.digest) ? .init(headers: [("content-encoding", name)], body: config) : nil
            }
            #expect(try await store.pull("\(registry.host)/app", auth: nil).id == image.id)
        }
    }

    @Test func compressedDocumentsAreBoundedToo() async throws {
        let bomb = try OCIImageBuilder.compress(Data(count: 5 << 20), .gzip)
        for (encoding, code) in [("gzip", SwiftletError.Code.resourceExhausted), ("br", .dataLoss)] {
            try await withFake { registry, store, _ async throws in
                registry.script { _ in .init(headers: [("content-encoding", encoding)], body: bomb) }
                let error = await #expect(throws: SwiftletError.self) { try await store.pull("\(registry.host)/app", auth: nil) }
                #expect(error?.code == code, "\(error?.message ?? "")")
            }
        }
    }

    /// What S3, and what a proxy, answers for a link that has expired.
    @Test(arguments: [
        (
            "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>Request has expired</Message><HostId>x</HostId></Error>",
            "AccessDenied: Request has expired"
        ),
        ("link expired\nsecond line", "link expired"),
    ])
    func theStoragesOwnWordsAreShown(_ body: String, _ words: String) async throws {
        let image = try OCIImageBuilder(layers: [layer("file", "x")]).build()
        try await withFake({ $0.attempts = 1 }) { registry, store, _ async throws in
            try await FakeRegistry.with { storage async throws in
                registry.add(image, "app")
                registry.script { [host = storage.host] request in
                    guard request.path.contains("/blobs/") else { return nil }
                    return .init(status: .temporaryRedirect, headers: [("location", "http://\(host)/bucket?signature=secret")])
                }
                storage.script { _ in .init(status: .forbidden, body: Data(body.utf8)) }
                let error = await #expect(throws: SwiftletError.self) { try await store.pull("\(registry.host)/app", auth: nil) }
                #expect(error?.code == .permissionDenied)
                let message = error?.message ?? ""
                #expect(message.contains("http://\(storage.host) says: \(words)"), "\(message)")
                #expect(!message.contains("second line") && !message.contains("secret"), "\(message)")
            }
        }
    }
}
