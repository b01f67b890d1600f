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
        _ translation: DiskSources.Translation = .init(name: "vm", url: "http://HOST/vm.qcow2"), timeout: Duration = .seconds(5),
        _ body: (FakeRegistry, ImageStore, URL) async throws -> Void
    ) async throws {
        try await FakeRegistry.with { server async throws in
            var translation = translation
            translation.url = translation.url.replacing("HOST", with: server.host)
            let sources = DiskSources(
                prefix: "virtlet.cloud", scheme: "http", translations: [translation],
                transports: ["default": DiskSources.Transport(timeout: timeout, maxRedirects: 3)])
            try await withStore({ $0.disks = sources }) { try await body(server, $0, $1) }
        }
    }

    @Test func aNameOfTheTableIsFetchedFromItsURL() async throws {
        try await withServer { server, store, directory async throws in
            server.script { $0.path == "/vm.qcow2" ? .init(headers: [("etag", "\"1\"")], body: Self.qcow) : nil }
            let image = try await store.pull("vm")
            #expect(image.repoTags == ["docker.io/library/vm:latest"] && image.repoDigests == ["docker.io/library/vm@\(Self.digest)"])
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

    /// As by a nightly build: machines of the former image go on with its disk, and it goes with the last of them.
    @Test func aChangedFileIsAnotherImageAndMachinesKeepTheirs() async throws {
        try await withServer { server, store, directory async throws in
            server.script { _ in .init(headers: [("etag", "\"1\"")], body: Self.qcow) }
            let first = try await store.pull("vm")
            try await store.lease(imageID: first.id, holder: "machine")
            let body = Self.qcow + Data(count: 512)
            server.script { _ in .init(headers: [("etag", "\"2\"")], body: body) }
            let second = try await store.pull("vm")
            #expect(second.id != first.id && second.repoTags == first.repoTags && second.repoDigests != first.repoDigests)
            #expect(try await store.status("vm")?.id == second.id)
            let disks = (
                try #require(try await store.rootfs(of: first.id).content.disk),
                try #require(try await store.rootfs(of: second.id).content.disk)
            )
            #expect(try Data(contentsOf: URL(filePath: disks.0.path)) == Self.qcow)
            #expect(try Data(contentsOf: URL(filePath: disks.1.path)) == body)
            // Without a name the former image is a kubelet's to remove; its disk stays the machine's.
            #expect(try await store.status(first.id)?.repoTags == [])
            try await store.remove(first.id)
            #expect(try await store.list().map(\.id) == [second.id])
            #expect(FileManager.default.fileExists(atPath: disks.0.path))
            try await store.releaseLeases(holder: "machine")
            #expect(!FileManager.default.fileExists(atPath: disks.0.path) && directory.stored.count == 1)
            // The file that is there is not fetched again for it to be found unchanged.
            #expect(try await store.pull("vm").id == second.id)
        }
    }

    /// A disk is known by its format as well: the same bytes are another one.
    @Test func aFormatOfTheTableIsNotThatOfAnEarlierPull() async throws {
        try await withServer(.init(name: "vm", url: "http://HOST/vm", format: .raw)) { server, store, directory async throws in
            server.script { _ in .init(body: Self.qcow) }
            let loaded = try await store.load(path: try directory.file("vm.qcow2", Self.qcow), reference: "vm")
            let image = try await store.pull("vm@\(Self.digest)")
            #expect(try await store.rootfs(of: image.id).content.disk?.format == .raw && image.id != loaded.first?.id)
        }
    }

    @Test func aBrokenDownloadIsResumed() async throws {
        try await withServer { server, store, _ async throws in
            server.script { request in
                guard let range = request.headers["range"] else {
                    return .init(
                        headers: [("etag", "\"1\"")], body: Self.qcow.prefix(100_000), announcedLength: Self.qcow.count, ending: .close)
                }
                let start = Int(range.dropFirst("bytes=".count).dropLast()) ?? 0
                return .init(
                    status: .partialContent,
                    headers: [("etag", "\"1\""), ("content-range", "bytes \(start)-\(Self.qcow.count - 1)/\(Self.qcow.count)")],
                    body: Self.qcow[start...])
            }
            let image = try await store.pull("vm")
            #expect(image.repoDigests == ["docker.io/library/vm@\(Self.digest)"])
            #expect(server.requests.count == 2 && server.requests[1].headers["if-range"] == "\"1\"")
        }
    }

    /// The first attempt breaks in what comes to be another file: none of its bytes are in what is taken.
    @Test(arguments: [
        "nothing", "a weak tag", "a date of now", "its own If-Range", "another tag", "another length", "another place", "416",
    ])
    func whatHasChangedIsNotMixed(_ what: String) async throws {
        let old = Data(QcowBuilder().with { $0.size = 2 << 30 }.built())
        try await withServer { server, store, _ async throws in
            server.script { request in
                let range = request.headers["range"]
                let headers: [(String, String)] =
                    switch what {
                    case "nothing": []
                    case "a weak tag": [("etag", "W/\"1\"")]
                    case "a date of now": [("last-modified", Self.date), ("date", Self.date)]
                    default: [("etag", range == nil && request.number == 0 ? "\"1\"" : "\"2\"")]
                    }
                if request.number == 0 {
                    return .init(headers: headers, body: old.prefix(100_000), announcedLength: old.count, ending: .close)
                }
                guard range != nil, what != "its own If-Range" else { return .init(headers: headers, body: Self.qcow) }
                if what == "416" { return .init(status: .rangeNotSatisfiable, headers: [("content-range", "bytes */4096")]) }
                let total = what == "another length" ? Self.qcow.count + 512 : Self.qcow.count
                let asked = range?.firstMatch(of: /bytes=(\d+)-/).flatMap { Int($0.1) } ?? 0
                let start = what == "another place" ? asked - 1 : asked
                return .init(
                    status: .partialContent,
                    headers: (what == "another tag" ? headers : []) + [("content-range", "bytes \(start)-\(total - 1)/\(total)")],
                    body: Self.qcow[start...])
            }
            let image = try await store.pull("vm")
            #expect(image.repoDigests == ["docker.io/library/vm@\(Self.digest)"])
            let asksForAPart = !["nothing", "a weak tag", "a date of now"].contains(what)
            #expect((server.requests[1].headers["range"] != nil) == asksForAPart)
        }
    }

    private static let date = "Tue, 02 Jan 2024 10:00:00 GMT"

    @Test func aFileThatIsOldByItsDateIsResumed() async throws {
        try await withServer { server, store, _ async throws in
            server.script { request in
                let headers = [("last-modified", Self.date), ("date", "Tue, 02 Jan 2024 10:05:00 GMT")]
                guard let start = request.headers["range"]?.firstMatch(of: /bytes=(\d+)-/).flatMap({ Int($0.1) }),
                    request.headers["if-range"] == Self.date
                else {
                    return .init(headers: headers, body: Self.qcow.prefix(100_000), announcedLength: Self.qcow.count, ending: .close)
                }
                let range = ("content-range", "bytes \(start)-\(Self.qcow.count - 1)/\(Self.qcow.count)")
                return .init(status: .partialContent, headers: headers + [range], body: Self.qcow[start...])
            }
            #expect(try await store.pull("vm").repoDigests == ["docker.io/library/vm@\(Self.digest)"])
        }
    }

    @Test(arguments: [
        ("redirects", "more than 3 redirects"), ("short", "truncated after 1000"), ("changing", "its content changes"),
        ("stalls", "no progress within the time-out"), ("stalls at once", "no progress within the time-out"),
        ("absurd", "announces no length, or more than"), ("encoded", "the server sends it encoded (gzip)"),
        ("a redirect to the metadata server", "link-local"), ("a redirect to this node", "this node itself"),
    ])
    func aServerThatLiesGetsNothingIn(_ how: String, _ reason: String) async throws {
        try await withServer(timeout: how.hasPrefix("stalls") ? .milliseconds(300) : .seconds(5)) { server, store, directory async throws in
            server.script { request in
                switch how {
                case "redirects": .init(status: .found, headers: [("location", "/vm.qcow2?\(request.number)")])
                case "a redirect to the metadata server": .init(status: .found, headers: [("location", "http://169.254.169.254/latest")])
                case "a redirect to this node": .init(status: .found, headers: [("location", "http://127.0.0.2:10255/pods")])
                case "short": .init(body: Self.qcow.prefix(1000), announcedLength: Self.qcow.count, ending: .close)
                case "stalls":
                    .init(headers: [("etag", "\"1\"")], body: Self.qcow.prefix(1000), announcedLength: Self.qcow.count, ending: .hang)
                case "stalls at once": .init(announcedLength: Self.qcow.count, ending: .hang)
                case "absurd": .init(body: Self.qcow, announcedLength: 1 << 60, ending: .hang)
                case "encoded": .init(headers: [("content-encoding", "gzip")], body: Self.qcow)
                default:
                    .init(
                        headers: [("etag", "\"\(request.number)\"")], body: Self.qcow.prefix(1000), announcedLength: Self.qcow.count,
                        ending: .close)
                }
            }
            let error = await #expect(throws: SwiftletError.self) { try await store.pull("vm") }
            #expect(error?.message.contains(reason) == true, "\(String(describing: error))")
            #expect(directory.stored.isEmpty)
        }
    }
}
