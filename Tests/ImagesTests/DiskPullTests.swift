import Errors
import Foundation
import Runtime
import Support
import Testing

@testable import Images

/// Disks that are named by where they are on the web.
@Suite(.timeLimit(.minutes(2))) struct DiskPullTests {
    private static let qcow = DiskImageTests.qcow
    private static let digest = OCIImageBuilder.digest(qcow)

    private func withServer(
        _ translation: DiskSources.Translation = .init(name: "vm", url: "http://HOST/vm.qcow2"),
        _ body: (FakeRegistry, ImageStore, URL) async throws -> Void
    ) async throws {
        try await FakeRegistry.with { server async throws in
            var translation = translation
            translation.url = translation.url.replacing("HOST", with: server.host)
            let sources = DiskSources(
                prefix: "virtlet.cloud", scheme: "http", translations: [translation],
                transports: ["default": DiskSources.Transport(timeout: .seconds(5), maxRedirects: 3)])
            try await withStore({ $0.disks = sources }) { try await body(server, $0, $1) }
        }
    }

    @Test func aNameOfTheTableIsFetchedFromItsURL() async throws {
        try await withServer { server, store, directory async throws in
            server.script { $0.path == "/vm.qcow2" ? .init(headers: [("etag", "1")], body: Self.qcow) : nil }
            let image = try await store.pull("vm")
            #expect(image.id == Self.digest && image.repoTags == ["docker.io/library/vm:latest"])
            let disk = try #require(try await store.rootfs(of: image.id).content.disk)
            #expect(disk.format == .qcow2 && disk.virtualSize == 1 << 30)
            #expect(directory.stored.count == 1)
            #expect(try await store.status("vm")?.id == image.id)
        }
    }

    @Test func whatNamesAreDisksAndWhere() throws {
        let sources = DiskSources(
            prefix: "virtlet.cloud",
            translations: [
                .init(regexp: "vms/(\\w+)-(\\d+)", url: "https://example.com/$1/$2.img", transport: "slow"),
                .init(name: "vms/cirros-5", url: "https://example.org/c.img", sha256: String(repeating: "a", count: 64)),
            ], transports: ["slow": .init(maxRedirects: 9)])
        func source(_ name: String) throws -> DiskSources.Source? { try sources.source(of: ImageReference(name)) }
        #expect(try source("virtlet.cloud/example.com/a/b.qcow2:tag")?.url == "https://example.com/a/b.qcow2")
        #expect(try source("virtlet.cloud/vms/debian-12")?.url == "https://example.com/debian/12.img")
        #expect(try source("vms/debian-12")?.transport.maxRedirects == 9)
        // Fixed names first.
        #expect(try source("vms/cirros-5")?.digest?.hex == String(repeating: "a", count: 64))
        #expect(try source("vms/debian-12x") == nil && source("busybox") == nil && source("quay.io/vms/debian-12") == nil)
        let other = "vms/cirros-5@sha256:" + String(repeating: "b", count: 64)
        #expect(throws: SwiftletError.self) { try source(other) }
        let nowhere = DiskSources(translations: [.init(name: "x", url: "file:///etc/passwd")])
        #expect(throws: SwiftletError.self) { try nowhere.source(of: ImageReference("x")) }
    }

    @Test func aDigestInTheNameIsKeptTo() async throws {
        try await withServer { server, store, directory async throws in
            server.script { _ in .init(body: Self.qcow) }
            let wrong = "vm@sha256:" + String(repeating: "0", count: 64)
            let error = await #expect(throws: SwiftletError.self) { try await store.pull(wrong) }
            #expect(error?.code == .dataLoss && error?.message.contains("digest mismatch") == true && directory.stored.isEmpty)
            let image = try await store.pull("vm@\(Self.digest)")
            #expect(image.repoDigests == ["docker.io/library/vm@\(Self.digest)"])
            let requests = server.requests.count
            #expect(try await store.pull("vm@\(Self.digest)").id == image.id)
            #expect(server.requests.count == requests, "it is here")
        }
    }

    @Test func aBrokenDownloadIsResumed() async throws {
        try await withServer { server, store, _ async throws in
            server.script { request in
                guard let range = request.headers["range"] else {
                    return .init(
                        headers: [("etag", "1")], body: Self.qcow.prefix(100_000), announcedLength: Self.qcow.count, ending: .close)
                }
                let start = Int(range.dropFirst("bytes=".count).dropLast()) ?? 0
                return .init(
                    status: .partialContent,
                    headers: [("etag", "1"), ("content-range", "bytes \(start)-\(Self.qcow.count - 1)/\(Self.qcow.count)")],
                    body: Self.qcow[start...])
            }
            #expect(try await store.pull("vm").id == Self.digest)
        }
    }

    @Test(arguments: [("redirects", "more than 3 redirects"), ("short", "truncated after 1000"), ("changing", "its content changes")])
    func aServerThatLiesGetsNothingIn(_ how: String, _ reason: String) async throws {
        try await withServer { server, store, directory async throws in
            server.script { request in
                switch how {
                case "redirects": .init(status: .found, headers: [("location", "/vm.qcow2?\(request.number)")])
                case "short": .init(body: Self.qcow.prefix(1000), announcedLength: Self.qcow.count, ending: .close)
                default:
                    .init(
                        headers: [("etag", "\(request.number)")], body: Self.qcow.prefix(1000), announcedLength: Self.qcow.count,
                        ending: .close)
                }
            }
            let error = await #expect(throws: SwiftletError.self) { try await store.pull("vm") }
            #expect(error?.message.contains(reason) == true, "\(String(describing: error))")
            #expect(directory.stored.isEmpty)
        }
    }
}
