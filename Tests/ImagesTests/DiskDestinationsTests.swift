import Concurrency
import Errors
import Foundation
import Linux
import Support
import Synchronization
import Testing

@testable import Images

/// Which hosts whoever names a disk may have the node connect to.
@Suite(.timeLimit(.minutes(1))) struct DiskDestinationsTests {
    private static func source(_ url: String, ofReference: Bool = true) -> DiskSources.Source {
        DiskSources.Source(
            url: url, transport: .init(timeout: .seconds(5), maxRedirects: 3), digest: nil, format: nil, isHostOfReference: ofReference)
    }

    private func refusal(
        _ address: String, _ reach: DiskSources.Reach = .init(), ofReference: Bool = true, from redirector: String? = nil
    ) async throws -> String? {
        let rules = DiskDestinations(source: Self.source("https://disks.example/a", ofReference: ofReference), reach: reach) { _ in
            ["203.0.113.9", address].compactMap { IPAddress($0) }
        }
        let target = try #require(URL(string: redirector == nil ? "https://disks.example/a" : "https://other.example/a"))
        do {
            _ = try await rules.addresses(of: target, from: redirector.flatMap { URL(string: $0) }, "disk")
            return nil
        } catch let error as SwiftletError {
            #expect(error.code == .permissionDenied && error.message.contains("images.disks.allowed_networks"))
            return error.message
        }
    }

    private static let own = [
        "127.0.0.1", "169.254.169.254", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "192.0.0.192", "100.100.100.200",
        "168.63.129.16", "::1", "::", "fe80::1", "ff02::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::7f00:1", "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::1", "100::1",
    ]
    private static let harmless = ["0.1.2.3", "255.255.255.255", "192.0.0.192", "::7f00:1", "100::1"]
    private static let privates = [
        "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1", "fd00::1", "fec0::1", "::ffff:10.0.0.1",
        "64:ff9b::a00:1", "2002:a00:1::1", "64:ff9b:1::1",
    ]

    /// Of all its addresses: the connection might be made to any.
    @Test(arguments: own + privates) func aReferencesHostHasNoAddressOfTheNodesSurroundings(_ address: String) async throws {
        let shown = try #require(IPAddress(address)).description
        #expect(try await refusal(address)?.contains(shown) == true)
        #expect(try await refusal(address, from: "https://disks.example/") != nil, "by a redirect")
        #expect(try await refusal(address, .init(networks: ["198.51.100.0/24", "2001:db8::/32"].compactMap { IPPrefix($0) })) != nil)
        let mayBePrivate = DiskSources.Reach(allowsPrivate: true)
        #expect((try await refusal(address, mayBePrivate) == nil) == Self.privates.contains(address))
        let everything = ["0.0.0.0/0", "::/0"].compactMap { IPPrefix($0) }
        #expect(try await refusal(address, .init(networks: everything)) == nil)
        #expect(try await refusal(address, ofReference: false) == nil, "the administrator's own")
        let redirected = try await refusal(address, ofReference: false, from: "https://disks.example/")
        #expect((redirected == nil) == (Self.privates + Self.harmless).contains(address), "as a registry's")
    }

    @Test(arguments: ["8.8.8.8", "2606:4700::1111", "172.32.0.1", "11.0.0.1", "::ffff:8.8.8.8", "2002:808:808::1"])
    func theWorldIsFree(_ address: String) async throws { #expect(try await refusal(address) == nil) }

    @Test func whereATableLetsAReferenceChooseTheHost() throws {
        let sources = DiskSources(
            prefix: "virtlet.cloud",
            translations: [
                .init(name: "fixed", url: "https://a.example/x"), .init(regexp: "path/(.+)", url: "https://a.example/$1"),
                .init(regexp: "host/(.+)", url: "https://$1/x"), .init(regexp: "end/(.+)", url: "https://a.example$1/x"),
                .init(regexp: "port/(\\d+)", url: "https://a.example:$1/x"), .init(regexp: "query/(.+)", url: "https://a.example?$1"),
            ])
        for (name, isOpen) in [
            ("fixed", false), ("path/b", false), ("host/b.example", true), ("end/b", true), ("port/22", true), ("query/b", false),
            ("virtlet.cloud/b.example/x", true), ("virtlet.cloud/fixed", false),
        ] { #expect(try sources.source(of: ImageReference(name))?.isHostOfReference == isOpen, "\(name)") }
    }

    private func download(
        _ url: String, ofReference: Bool = true, networks: [String], in directory: URL,
        resolve: @escaping RegistryDestinations.Resolve
    ) async throws -> BlobSource {
        var configuration = ImageStoreConfiguration(root: directory.path, retryDelay: .milliseconds(1))
        configuration.disks.reach.networks = networks.compactMap { IPPrefix($0) }
        let work = BlockingPool("download", threads: 2)
        defer { work.close() }
        return try await DiskDownload(
            source: Self.source(url, ofReference: ofReference), configuration: configuration, throughput: PullThroughput(.init()),
            work: work,
            resolve: resolve
        ).run(to: directory.path + "/blob")
    }

    /// The name is one that no resolver knows: who connects to anything but the address that was judged gets nowhere.
    @Test func theConnectionIsToTheAddressThatWasJudged() async throws {
        try await FakeRegistry.with { server async throws in
            server.script { request in
                let redirect = FakeRegistry.Answer(status: .found, headers: [("location", "http://other.invalid:\(server.port)/b")])
                return request.path == "/a" ? redirect : .init(body: Data("disk".utf8))
            }
            try await withTestDirectory { directory in
                let asked = Mutex<[String]>([])
                let blob = try await download("http://disks.invalid:\(server.port)/a", networks: ["127.0.0.1/32"], in: directory) { host in
                    // Of another kind the next time, as a server of names would that means harm.
                    let again = asked.withLock { asked in
                        defer { asked.append(host) }
                        return asked.contains(host)
                    }
                    return [IPAddress(again ? "127.0.0.2" : "127.0.0.1")].compactMap { $0 }
                }
                #expect(blob.length == 4 && asked.withLock { $0 } == ["disks.invalid", "other.invalid"])
                #expect(server.requests.map { $0.headers["host"] } == ["disks.invalid:\(server.port)", "other.invalid:\(server.port)"])
            }
        }
    }

    /// Of the same name by other bytes, as parsers of URLs make them: by the resolver it would lead nowhere.
    @Test(arguments: ["xn--bcher-kva.invalid", "OTHER.invalid", "a_b.invalid."])
    func aNameInAnyFormIsConnectedToWhereItWasJudged(_ name: String) async throws {
        try await FakeRegistry.with { server async throws in
            let location = "http://\(name):\(server.port)/b"
            server.script { $0.path == "/a" ? .init(status: .found, headers: [("location", location)]) : .init(body: Data("disk".utf8)) }
            try await withTestDirectory { directory in
                for first in ["http://\(name):\(server.port)/a", "http://disks.invalid:\(server.port)/a"] {
                    let folder = directory.appending(path: UUID().uuidString)
                    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
                    let asked = Mutex<[String]>([])
                    let blob = try await download(first, networks: ["127.0.0.1/32"], in: folder) { host in
                        asked.withLock { $0.append(host) }
                        return [IPAddress("127.0.0.1")].compactMap { $0 }
                    }
                    #expect(blob.length == 4)
                    #expect(asked.withLock { $0.last } == name)
                }
                #expect(server.requests.count == 4)
            }
        }
    }

    /// What decodes to another name, and what ends for the resolver before it does for others.
    @Test(arguments: ["oth%65r.invalid", "other.invalid%00.example", "[fe80::1%25lo]", "a b.invalid"])
    func aNameWithEscapesIsRefused(_ name: String) async throws {
        try await FakeRegistry.with { server async throws in
            let location = "http://\(name):\(server.port)/b"
            server.script { $0.path == "/a" ? .init(status: .found, headers: [("location", location)]) : .init(body: Data("disk".utf8)) }
            try await withTestDirectory { directory in
                for (first, requests) in [(location, 0), ("http://disks.invalid:\(server.port)/a", 1)] {
                    let refused = await #expect(throws: SwiftletError.self) {
                        try await download(first, networks: ["0.0.0.0/0", "::/0"], in: directory) { _ in
                            [IPAddress("127.0.0.1")].compactMap { $0 }
                        }
                    }
                    let codes: [SwiftletError.Code?] = [.permissionDenied, .invalidArgument, .dataLoss]
                    #expect(codes.contains(refused?.code), "\(String(describing: refused))")
                    #expect(server.requests.count == requests)
                    try? FileManager.default.removeItem(atPath: directory.path + "/blob")
                }
            }
        }
    }

    @Test(arguments: ["http://127.0.0.2:PORT/b", "http://[::ffff:127.0.0.2]:PORT/b", "http://other.invalid:PORT/b", "file:///etc/passwd"])
    func eachRedirectIsJudged(_ target: String) async throws {
        try await FakeRegistry.with { server async throws in
            let location = target.replacing("PORT", with: server.port)
            server.script { $0.path == "/a" ? .init(status: .found, headers: [("location", location)]) : .init(body: Data("disk".utf8)) }
            try await withTestDirectory { directory in
                let error = await #expect(throws: SwiftletError.self) {
                    try await download("http://disks.invalid:\(server.port)/a", networks: ["127.0.0.1/32"], in: directory) { host in
                        [IPAddress(host) ?? IPAddress(host == "disks.invalid" ? "127.0.0.1" : "127.0.0.2")].compactMap { $0 }
                    }
                }
                #expect(error?.code == .permissionDenied, "\(String(describing: error))")
                #expect(server.requests.count == 1)
            }
        }
    }

    /// By the whole path: a reference whose host is this node's own.
    @Test func aPodsAuthorReachesTheNodeOnlyWhereThatIsAllowed() async throws {
        try await FakeRegistry.with { server async throws in
            server.script { _ in .init(body: DiskImageTests.qcow) }
            var sources = DiskSources(translations: [.init(regexp: "at/(.+)", url: "http://$1:\(server.port)/vm.qcow2")])
            try await withStore({ $0.disks = sources }) { store, _ async throws in
                for name in ["at/localhost", "at/127.0.0.1", "at/127.1", "at/2130706433"] {
                    let error = await #expect(throws: SwiftletError.self) { try await store.pull(name) }
                    #expect(error?.code == .permissionDenied, "\(name): \(String(describing: error))")
                }
                #expect(server.requests.isEmpty)
            }
            sources.reach.networks = ["127.0.0.0/8", "::1/128"].compactMap { IPPrefix($0) }
            try await withStore({ $0.disks = sources }) { store, _ async throws in _ = try await store.pull("at/localhost") }
        }
    }
}

extension FakeRegistry {
    var port: String { String(host.split(separator: ":").last ?? "") }
}
