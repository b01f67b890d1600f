import Dispatch
import Errors
import Foundation
import State
import Support
import Synchronization
import Testing

@testable import Images

/// Layers' files are changed outside the database's transactions: nobody waits for the disk, and a kill between two is repaired.
@Suite(.timeLimit(.minutes(2))) struct LayerFilesTests {
    enum Step: String, Sendable, CaseIterable {
        case beforePublishing, afterPublishing, beforeDeleting, afterDeleting

        var isDeletion: Bool { self == .beforeDeleting || self == .afterDeleting }
    }

    /// The disk, with `reached` called at each step of a file's way.
    private static func files(_ reached: @escaping @Sendable (Step) throws -> Void) -> LayerFiles {
        LayerFiles(
            publish: { temporary, path in
                try reached(.beforePublishing)
                try LayerFiles.disk.publish(temporary, path)
                try reached(.afterPublishing)
            },
            delete: { path in
                try reached(.beforeDeleting)
                try LayerFiles.disk.delete(path)
                try reached(.afterDeleting)
            })
    }

    private let kept: BuiltImage
    private let other: BuiltImage

    init() throws {
        kept = try OCIImageBuilder(layers: [layer("file", "shared"), layer("file", "kept")]).build()
        other = try OCIImageBuilder(layers: [layer("file", "shared"), layer("file", "other")]).build()
    }

    private func archive(_ image: BuiltImage, _ name: String, in directory: URL) throws -> String {
        try directory.file("\(name).tar", OCIImageBuilder.archive([("\(name):v1", image)]))
    }

    /// The state as a kill at `step` leaves it is a copy made at that moment.
    @Test(arguments: Step.allCases) func aKillBetweenFileAndRecordIsRepairedAtTheStart(_ step: Step) async throws {
        try await withTestDirectory { directory in
            let running = directory.appendingPathComponent("running")
            let killed = directory.appendingPathComponent("killed")
            try FileManager.default.createDirectory(at: running, withIntermediateDirectories: false)
            let keptArchive = try archive(kept, "kept", in: directory)
            let otherArchive = try archive(other, "other", in: directory)
            try await withStore(in: running) { store async throws in
                _ = try await store.load(path: keptArchive)
                if step.isDeletion { _ = try await store.load(path: otherArchive) }
            }
            let kill = Self.files { reached in
                guard reached == step else { return }
                try FileManager.default.copyItem(at: running, to: killed)
            }
            try await withStore(in: running, files: kill) { store async throws in
                if step.isDeletion { try await store.remove("other:v1") } else { _ = try await store.load(path: otherArchive) }
            }
            try #require(FileManager.default.fileExists(atPath: killed.path))
            try await withStore(in: killed) { store async throws in
                #expect(try await store.list().map(\.repoTags) == [["docker.io/library/kept:v1"]])
                #expect(killed.stored.count == 2)
                let layers = try await store.database.layers()
                #expect(layers.count == 2 && layers.allSatisfy { (try? $0.record.get())?.state == .ready })
                _ = try await store.load(path: otherArchive)
                #expect(killed.stored.count == 3)
                try await store.remove("other:v1")
                try await store.remove("kept:v1")
                #expect(killed.stored.isEmpty)
            }
        }
    }

    @Test(arguments: [Step.beforePublishing, .beforeDeleting]) func writesOfOthersGoOnWhileAFileIsChanged(_ step: Step) async throws {
        let (reached, reach) = AsyncStream<Void>.makeStream()
        let goOn = DispatchSemaphore(value: 0)
        let files = Self.files { now in
            guard now == step else { return }
            reach.yield()
            guard goOn.wait(timeout: .now() + 30) == .success else { throw SwiftletError(.deadlineExceeded, "nobody wrote meanwhile") }
        }
        try await withTestDirectory { directory in
            let path = try archive(try OCIImageBuilder(layers: [layer("file", "x")]).build(), "app", in: directory)
            try await withStore(in: directory, files: files) { store async throws in
                let change = Task {
                    _ = try await store.load(path: path)
                    try await store.remove("app:v1")
                }
                for await _ in reached { break }
                try await store.database.write { try NodeSettingRecord(name: "written", document: Data()).insert($0) }
                goOn.signal()
                try await change.value
                #expect(directory.stored.isEmpty)
            }
        }
    }

    @Test func aLayerWantedWhileItIsDeletedIsMadeAgain() async throws {
        let (reached, reach) = AsyncStream<Void>.makeStream()
        let goOn = DispatchSemaphore(value: 0)
        let files = Self.files { now in
            guard now == .beforeDeleting else { return }
            reach.yield()
            guard goOn.wait(timeout: .now() + 30) == .success else { throw SwiftletError(.deadlineExceeded, "nobody went on") }
        }
        try await withTestDirectory { directory in
            let path = try archive(try OCIImageBuilder(layers: [layer("file", "x")]).build(), "app", in: directory)
            try await withStore(in: directory, files: files) { store async throws in
                _ = try await store.load(path: path)
                let removal = Task { try await store.remove("app:v1") }
                for await _ in reached { break }
                let load = Task { try await store.load(path: path) }
                // It is waiting when the layer is held.
                let layer = try #require(try await store.database.layers().first)
                while !store.layers.claims.isHeld(layer.diffID) { try await Task.sleep(for: .milliseconds(5)) }
                goOn.signal()
                try await removal.value
                let image = try #require(try await load.value.first)
                let rootfs = try await store.rootfs(of: image.id)
                #expect(rootfs.layers.allSatisfy { FileManager.default.fileExists(atPath: $0.path) })
                #expect(directory.stored.count == 1)
                goOn.signal()
            }
        }
    }

    @Test func aFileThatCannotBeDeletedIsTriedAgainAndStopsNoStart() async throws {
        let isBroken = Mutex(true)
        let files = Self.files { now in
            if now == .beforeDeleting, isBroken.withLock({ $0 }) { throw SwiftletError(.internal, "the disk refuses") }
        }
        try await withTestDirectory { directory in
            let path = try archive(try OCIImageBuilder(layers: [layer("file", "x")]).build(), "app", in: directory)
            try await withStore(in: directory, files: files) { store async throws in
                _ = try await store.load(path: path)
                await #expect(throws: SwiftletError.self) { try await store.remove("app:v1") }
                #expect(try await store.list().isEmpty)
                #expect(directory.stored.count == 1)
            }
            try await withStore(in: directory, files: files) { store async throws in
                #expect(directory.stored.count == 1)
                isBroken.withLock { $0 = false }
                try await store.remove("app:v1")
                try await store.releaseLeases(holder: "nobody")
                #expect(directory.stored.isEmpty)
                #expect(try await store.database.read { try $0.tableNamesWithRows }.isEmpty)
            }
        }
    }
}
