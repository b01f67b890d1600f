import Errors
import Foundation
import NIOCore
import NIOSSL
import Support
import Synchronization
import Testing

@testable import Images

/// One registry's slowness is its own pulls' affair.
@Suite(.timeLimit(.minutes(2))) struct FairPullTests {
    private let slow: BuiltImage
    private let quick: BuiltImage

    init() throws {
        slow = try OCIImageBuilder(layers: (0..<3).map { layer("slow", noise(100_000, seed: UInt64($0))) }).build()
        quick = try OCIImageBuilder(layers: [layer("quick", "quick")]).build()
    }

    /// Two registries: the first trickles the layers of `slow`, and says on the stream which it was asked for.
    private func withRegistries(
        _ change: (inout ImageStoreConfiguration) -> Void,
        _ body: (_ slow: FakeRegistry, _ quick: FakeRegistry, ImageStore, URL, AsyncStream<String>) async throws -> Void
    ) async throws {
        let (asked, ask) = AsyncStream<String>.makeStream()
        try await FakeRegistry.with { first async throws in
            try await FakeRegistry.with { second async throws in
                first.add(slow, "slow")
                first.add(quick, "quick")
                second.add(quick, "quick")
                let trickled = Set(slow.layers.map(\.digest))
                first.script { request in
                    guard let digest = trickled.first(where: request.path.contains) else { return nil }
                    ask.yield(digest)
                    return .init(body: Data([0]), announcedLength: 100_000, ending: .trickle(.milliseconds(20)))
                }
                try await withStore(change) { store, directory in try await body(first, second, store, directory, asked) }
            }
        }
    }

    /// Also when it may go on for ever.
    @Test func aRegistryThatTricklesStopsNoOtherPull() async throws {
        try await withRegistries({ $0.leastThroughput.bytes = 0 }) { first, second, store, _, asked async throws in
            let pull = Task { try await store.pull("\(first.host)/slow") }
            var digests: Set<String> = []
            for await digest in asked where digests.insert(digest).inserted && digests.count == 3 { break }
            #expect(try await store.pull("\(second.host)/quick").id == quick.id)
            try await store.remove(quick.id)
            #expect(try await store.pull("\(first.host)/quick").id == quick.id)
            pull.cancel()
            await #expect(throws: SwiftletError.self) { try await pull.value }
        }
    }

    /// Any number of its pulls leave places to other registries.
    @Test func noRegistryTakesAllPlaces() async throws {
        let change: (inout ImageStoreConfiguration) -> Void = {
            $0.leastThroughput.bytes = 0
            $0.downloads = DownloadLimits(perPull: 3, perRegistry: 2, total: 3)
        }
        try await withRegistries(change) { first, second, store, _, asked async throws in
            let pull = Task { try await store.pull("\(first.host)/slow") }
            var digests: Set<String> = []
            for await digest in asked where digests.insert(digest).inserted && digests.count == 2 { break }
            #expect(try await store.pull("\(second.host)/quick").id == quick.id)
            #expect(Set(first.requests.map(\.path).filter { path in slow.layers.contains { path.contains($0.digest) } }).count == 2)
            pull.cancel()
            await #expect(throws: SwiftletError.self) { try await pull.value }
        }
    }

    @Test func aTricklingLayerIsGivenUp() async throws {
        let change: (inout ImageStoreConfiguration) -> Void = {
            $0.leastThroughput = LeastThroughput(bytes: 10_000, window: .milliseconds(400), grace: .milliseconds(100))
            // What comes before the layers is none of this test.
            $0.leastThroughput.patience = .seconds(60)
        }
        try await withRegistries(change) { first, _, store, directory, _ async throws in
            let error = await #expect(throws: SwiftletError.self) { try await store.pull("\(first.host)/slow") }
            #expect(error?.code == .unavailable)
            #expect(error?.message.hasPrefix("RegistryUnavailable: ") == true)
            #expect(error?.message.contains("too slow") == true, "\(error?.message ?? "")")
            #expect(slow.layers.contains { error?.message.contains($0.digest) == true })
            #expect(directory.stored.isEmpty)
            #expect(try await store.database.read { try $0.tableNamesWithRows }.isEmpty)
        }
    }

    /// Each layer ends before it would be judged alone.
    @Test func manySmallLayersThatTrickleAreGivenUpAsOnePull() async throws {
        var builder = OCIImageBuilder(layers: (0..<40).map { layer("small-\($0)", "small") })
        builder.compression = .none
        let many = try builder.build()
        let change: (inout ImageStoreConfiguration) -> Void = {
            $0.leastThroughput = LeastThroughput(bytes: 1_000_000, window: .seconds(3), grace: .milliseconds(100))
            $0.leastThroughput.patience = .seconds(60)
            $0.downloads.perPull = 1
        }
        try await withRegistries(change) { _, second, store, directory, _ async throws in
            second.add(many, "many")
            second.script { request in
                guard let blob = many.layers.first(where: { request.path.contains($0.digest) }) else { return nil }
                // A tar ends in zeros.
                return .init(body: blob.bytes.dropLast(20), announcedLength: blob.bytes.count, ending: .trickle(.milliseconds(10)))
            }
            let error = await #expect(throws: SwiftletError.self) { try await store.pull("\(second.host)/many") }
            #expect(error?.code == .unavailable && error?.message.contains("too slow") == true, "\(error?.message ?? "")")
            let asked = many.layers.count { second.count($0.digest) > 0 }
            #expect(asked > 1 && asked < many.layers.count, "\(asked) layers")
            #expect(directory.stored.isEmpty)
        }
    }

    @Test func aLayerThatFailsEndsTheOthersOfItsPull() async throws {
        try await withRegistries({ $0.leastThroughput.bytes = 0 }) { _, second, store, directory, _ async throws in
            second.add(slow, "mixed")
            second.script { [slow] request in
                if request.path.contains(slow.layers[0].digest) { return .json("{}", status: .notFound) }
                guard slow.layers.contains(where: { request.path.contains($0.digest) }) else { return nil }
                return .init(body: Data([0]), announcedLength: 100_000, ending: .trickle(.milliseconds(20)))
            }
            // Of the others each would take half an hour.
            let error = await #expect(throws: SwiftletError.self) { try await store.pull("\(second.host)/mixed") }
            #expect(error?.code == .notFound)
            #expect(directory.stored.isEmpty)
        }
    }

    /// Of one registry's places, a pull that wants one gets the next, whatever another has asked for before.
    @Test func aPullWithManyLayersHoldsUpNoSmallOneOfItsRegistry() async throws {
        let change: (inout ImageStoreConfiguration) -> Void = {
            $0.leastThroughput.bytes = 0
            $0.downloads = DownloadLimits(perPull: 10, perRegistry: 2, total: 2)
        }
        var builder = OCIImageBuilder(layers: (0..<10).map { layer("many-\($0)", "many") })
        builder.compression = .none
        let many = try builder.build()
        try await withRegistries(change) { _, second, store, _, _ async throws in
            second.add(many, "many")
            let asked = Mutex<[String]>([])
            second.script { request in
                guard request.path.contains("/blobs/") else { return nil }
                asked.withLock { $0.append(request.path) }
                guard let blob = many.layers.first(where: { request.path.contains($0.digest) }) else { return nil }
                // About 0.4 s for each.
                return .init(body: blob.bytes.dropLast(40), announcedLength: blob.bytes.count, ending: .trickle(.milliseconds(10)))
            }
            let large = Task { try await store.pull("\(second.host)/many") }
            while asked.withLock({ paths in paths.count { $0.contains("/many/") } }) < 3 { try await Task.sleep(for: .milliseconds(5)) }
            #expect(try await store.pull("\(second.host)/quick").id == quick.id)
            let before = asked.withLock { paths in
                paths.prefix { !$0.contains(quick.layers[0].digest) }.count { $0.contains("/many/") }
            }
            #expect(before < 9, "\(before) of the large pull's 11 blobs came first")
            large.cancel()
            _ = await large.result
        }
    }

    @Test func aLayerThatComesSlowlyButSteadilyArrives() async throws {
        let steady = try OCIImageBuilder(layers: [layer("steady", noise(2000))]).build()
        let blob = steady.layers[0]
        let change: (inout ImageStoreConfiguration) -> Void = {
            $0.leastThroughput = LeastThroughput(bytes: 1, window: .seconds(4), grace: .zero)
            $0.attempts = 1
        }
        try await withRegistries(change) { _, second, store, _, _ async throws in
            second.add(steady, "steady")
            // Zeros come slowly at the end: the content is wrong, but it came whole.
            second.script { request in
                guard request.path.contains(blob.digest) else { return nil }
                return .init(body: blob.bytes.dropLast(40), announcedLength: blob.bytes.count, ending: .trickle(.milliseconds(150)))
            }
            let error = await #expect(throws: SwiftletError.self) { try await store.pull("\(second.host)/steady") }
            #expect(error?.code == .dataLoss)
            #expect(error?.message.contains("content has the digest") == true, "\(error?.message ?? "")")
        }
    }

    @Test(arguments: ["/manifests/", "/blobs/"]) func aTricklingDocumentIsGivenUp(_ part: String) async throws {
        let change: (inout ImageStoreConfiguration) -> Void = {
            $0.leastThroughput = LeastThroughput(bytes: 10_000, window: .milliseconds(200), grace: .milliseconds(100))
        }
        try await withRegistries(change) { _, second, store, directory, _ async throws in
            second.script { [quick] request in
                guard request.path.contains(part) else { return nil }
                return .init(
                    headers: [("content-type", quick.manifest.mediaType)], body: Data("{".utf8),
                    announcedLength: part == "/blobs/" ? quick.config.bytes.count : 1 << 20, ending: .trickle(.milliseconds(20)))
            }
            let error = await #expect(throws: SwiftletError.self) { try await store.pull("\(second.host)/quick") }
            #expect(error?.code == .unavailable)
            #expect(error?.message.contains("not complete") == true, "\(error?.message ?? "")")
            #expect(directory.stored.isEmpty)
        }
    }

    /// A layer that two images share is fetched from each one's own registry.
    @Test func aLayerThatTricklesElsewhereIsNotWaitedFor() async throws {
        try await withRegistries({ $0.leastThroughput.bytes = 0 }) { first, second, store, _, asked async throws in
            second.add(slow, "same")
            let pull = Task { try await store.pull("\(first.host)/slow") }
            var digests: Set<String> = []
            for await digest in asked where digests.insert(digest).inserted && digests.count == 3 { break }
            #expect(try await store.pull("\(second.host)/same").id == slow.id)
            pull.cancel()
            _ = await pull.result
            #expect(try await store.rootfs(of: slow.id).layers.count == 3)
        }
    }

    /// The layer is the same, but the first pull's repository does not have it.
    @Test func aJoinedLayerThatFailsForTheOtherIsFetchedAgain() async throws {
        try await FakeRegistry.with { registry async throws in
            let (asked, ask) = AsyncStream<Void>.makeStream()
            registry.add(quick, "with")
            registry.add(quick, "without")
            registry.script { [quick] request in
                guard request.path.contains("/without/blobs/\(quick.layers[0].digest)") else { return nil }
                ask.yield()
                return .init(body: Data([0]), announcedLength: quick.layers[0].bytes.count, ending: .trickle(.milliseconds(10)))
            }
            try await withStore { store, _ async throws in
                let without = Task { try await store.pull("\(registry.host)/without") }
                for await _ in asked { break }
                #expect(try await store.pull("\(registry.host)/with").id == quick.id)
                let error = await #expect(throws: SwiftletError.self) { try await without.value }
                #expect(error?.code == .dataLoss)
            }
        }
    }

    @Test func conversionsHoldNoPlaceOfDownloads() async throws {
        try await withRegistries({ $0.downloads = DownloadLimits(perPull: 1, perRegistry: 1, total: 1) }) {
            _, second, store, _, _ async throws in
            let other = try OCIImageBuilder(layers: [layer("other", "other")]).build()
            second.add(other, "other")
            let (entered, enter) = AsyncStream<Void>.makeStream()
            let (left, leave) = AsyncStream<Void>.makeStream()
            try await withThrowingTaskGroup { group in
                for _ in 0..<store.configuration.maxConversions {
                    group.addTask {
                        try await store.conversions.withPermit(for: PullID()) {
                            enter.yield()
                            for await _ in left { break }
                        }
                    }
                }
                var count = 0
                for await _ in entered {
                    count += 1
                    if count == store.configuration.maxConversions { break }
                }
                group.addTask { _ = try await store.pull("\(second.host)/quick") }
                group.addTask { _ = try await store.pull("\(second.host)/other") }
                let blobs = [quick.layers[0].digest, other.layers[0].digest]
                while !blobs.allSatisfy({ second.count($0) == 1 }) { try await Task.sleep(for: .milliseconds(5)) }
                leave.finish()
                try await group.waitForAll()
            }
            #expect(try await store.list().count == 2)
        }
    }
}

extension FakeRegistry {
    /// A registry while `body` runs.
    static func with(tls: NIOSSLContext? = nil, _ body: (FakeRegistry) async throws -> Void) async throws {
        let registry = try await start(tls: tls)
        do {
            try await body(registry)
            try await registry.stop()
        } catch {
            try? await registry.stop()
            throw error
        }
    }
}
