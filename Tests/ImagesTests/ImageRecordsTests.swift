import Errors
import Foundation
import GRDB
import State
import Support
import Testing

@testable import Images

/// Records of every released version are read for ever. `Golden/VERSION/state.sql` is the state database that this version left, dumped;
/// a new version of the records adds a folder and changes none.
@Suite(.timeLimit(.minutes(1))) struct GoldenImageTests {
    private static let app = "sha256:f2094d7a7a7943ebb6543025f92f51c892b05ece5d997f7e8ed1e13f84317ffc"
    private static let other = "sha256:188fc84c2be3316fb1ffd2a31c6d8efed615ed2d199745fb8ee857c84c8af88d"

    /// Puts the database and files of its layers' sizes where a store looks for them.
    private static func put(_ version: String, into directory: URL) throws {
        let url = try #require(Bundle.module.url(forResource: "state", withExtension: "sql", subdirectory: "Golden/\(version)"))
        let dump = try String(contentsOf: url, encoding: .utf8)
        var configuration = Configuration()
        configuration.foreignKeysEnabled = false
        let database = try DatabaseQueue(path: directory.appendingPathComponent("state.db").path, configuration: configuration)
        try database.writeWithoutTransaction { try $0.execute(sql: dump) }
        for row in try database.read({ try Row.fetchAll($0, sql: "SELECT diffID, filesystem, sizeBytes FROM layer") }) {
            let (id, filesystem, size): (String, String, Int) = (row["diffID"], row["filesystem"], row["sizeBytes"])
            _ = try directory.file("images/layers/\(id.dropFirst(7)).\(filesystem)", Data(count: size))
        }
        try database.close()
    }

    @Test(arguments: ["0.1.0"]) func imagesOfAnEarlierVersionAreWhatTheyWere(_ version: String) async throws {
        try await withTestDirectory { directory in
            try Self.put(version, into: directory)
            let log = RecordedLog()
            try await withStore(in: directory, log: log) { store async throws in
                let image = try #require(try await store.status("registry.example.com/team/app:v1"))
                #expect(image.id == Self.app && image.size == 25087 && image.user.uid == 1000 && !image.pinned)
                #expect(image.repoTags == ["registry.example.com/team/app:v1"])
                #expect(
                    image.repoDigests == [
                        "registry.example.com/team/app@sha256:7cf19c5e44922325dd3dc82d28483b18a8ea80e3af1969c5750111fbda592a17"
                    ])
                let config = try await store.config(of: image.id)
                #expect(config.env == ["PATH=/bin"] && config.workingDir == "/srv" && config.stopSignal == "SIGQUIT")
                #expect(config.exposedPorts == ["80/tcp"] && config.volumes == ["/data"])
                #expect(try await store.list() == [image])
                // The one in the middle is empty.
                #expect(try await store.rootfs(of: Self.app).layers.map(\.serial) == ["b448c8d62ffc0e7ec9bc", "a7f68c8147167012df6a"])
                // Removed, but leased.
                #expect(try await store.status(Self.other) == nil)
                #expect(try await store.rootfs(of: Self.other).layers.count == 2)
                #expect(directory.stored.count == 4)
                try await store.releaseLeases(holder: "container-1")
                await #expect(throws: SwiftletError.self) { try await store.rootfs(of: Self.other) }
                #expect(directory.stored.count == 3)
            }
            #expect(log.lines.isEmpty, "\(log.lines)")
        }
    }

    @Test func everyRowSaysItsVersion() async throws {
        let built = try OCIImageBuilder(layers: [layer("file", "x")]).build()
        try await withStore { store, directory async throws in
            _ = try await store.load(path: try directory.file("app.tar", OCIImageBuilder.archive([("app:v1", built)])))
            for (table, version) in [("image", ImageRecord.version), ("layer", LayerRecord.version)] {
                #expect(try await store.database.read { try Int.fetchAll($0, sql: "SELECT version FROM \(table)") } == [version])
            }
        }
    }
}

/// A damaged row is the matter of one image.
@Suite(.timeLimit(.minutes(2))) struct DamagedImageTests {
    private let whole: BuiltImage
    private let damaged: BuiltImage

    init() throws {
        whole = try OCIImageBuilder(layers: [layer("file", "shared"), layer("file", "whole")]).build()
        damaged = try OCIImageBuilder(layers: [layer("file", "shared"), layer("file", "damaged")]).build()
    }

    private static let damage = [
        "UPDATE image SET size = 'x' WHERE id = ?1", "UPDATE image SET size = -1 WHERE id = ?1",
        "UPDATE image SET config = x'7B7D' WHERE id = ?1", "UPDATE image SET config = 17 WHERE id = ?1",
        "UPDATE image SET pinned = 'x' WHERE id = ?1", "UPDATE image SET removed = 'x' WHERE id = ?1",
        "UPDATE image SET version = 99 WHERE id = ?1", "UPDATE image SET version = 'x' WHERE id = ?1",
        "DELETE FROM imageLayer WHERE imageID = ?1 AND position = 0", "UPDATE imageLayer SET position = 'x' WHERE imageID = ?1",
        "UPDATE imageLayer SET position = 7 WHERE imageID = ?1 AND position = 0",
        "UPDATE layer SET sizeBytes = 'x' WHERE diffID = ?2", "UPDATE layer SET state = 'lost' WHERE diffID = ?2",
        "UPDATE layer SET filesystem = x'FF' WHERE diffID = ?2", "UPDATE layer SET version = 99 WHERE diffID = ?2",
    ]

    /// A store whose image `damaged` is that, and one that is whole.
    private func withDamage(_ sql: String, _ body: (ImageStore, URL, RecordedLog) async throws -> Void) async throws {
        let own = OCIImageBuilder.digest(layer("file", "damaged"))
        try await withTestDirectory { directory in
            try await withStore(in: directory) { store async throws in
                for (name, image) in [("whole", whole), ("damaged", damaged)] {
                    _ = try await store.load(path: try archive(name, image, in: directory))
                }
                // `position = 'x'` is wanted in one row only.
                let once = sql.contains("position = 'x'") ? sql + " AND position = 0" : sql
                let changed = try await store.database.write { [damaged] database in
                    try database.execute(sql: once.replacing("?1", with: "'\(damaged.id)'").replacing("?2", with: "'\(own)'"))
                    return database.changesCount
                }
                #expect(changed == 1)
            }
            let log = RecordedLog()
            try await withStore(in: directory, log: log) { try await body($0, directory, log) }
        }
    }

    private func archive(_ name: String, _ image: BuiltImage, in directory: URL) throws -> String {
        try directory.file("\(name).tar", OCIImageBuilder.archive([("\(name):v1", image)]))
    }

    @Test(arguments: damage) func aDamagedImageHidesNoOtherAndIsRemoved(_ sql: String) async throws {
        try await withDamage(sql) { store, directory, log async throws in
            #expect(log.lines.contains { $0.contains("image cannot be used") && $0.contains(damaged.id) }, "\(log.lines)")
            #expect(!log.lines.contains { $0.contains(whole.id) })
            #expect(Set(try await store.list().map(\.id)) == [whole.id, damaged.id])
            #expect(try await store.status("whole:v1")?.id == whole.id)
            #expect(try await store.rootfs(of: whole.id).layers.count == 2)
            // Absent for those who would make containers of it.
            #expect(try await store.status("damaged:v1") == nil)
            #expect(try await store.status(damaged.id) == nil)
            let error = await #expect(throws: SwiftletError.self) { try await store.rootfs(of: damaged.id) }
            #expect(error?.message.contains(damaged.id) == true && error?.message.contains("pull it again") == true)
            try await store.remove("damaged:v1")
            #expect(try await store.list().map(\.id) == [whole.id])
            #expect(directory.stored.count == 2, "its own layer is gone")
            #expect(try await store.rootfs(of: whole.id).layers.count == 2)
        }
    }

    /// As a container holds it meanwhile.
    @Test(arguments: damage) func aDamagedImageIsRepairedByTakingItInAgain(_ sql: String) async throws {
        try await withDamage(sql) { store, directory, _ async throws in
            let archive = try archive("damaged", damaged, in: directory)
            let image = try #require(try await store.load(path: archive).first)
            #expect(image.id == damaged.id && image.size > 0)
            #expect(try await store.config(of: image.id).diffIDs.count == 2)
            #expect(try await store.status("damaged:v1") == image)
            let rootfs = try await store.rootfs(of: damaged.id)
            #expect(rootfs.layers.count == 2 && rootfs.layers.allSatisfy { FileManager.default.fileExists(atPath: $0.path) })
            #expect(directory.stored.count == 3)
            try await store.lease(imageID: damaged.id, holder: "container")
        }
    }

    @Test func aDamagedImageKeepsItsLayersAsLongAsAContainerHoldsThem() async throws {
        try await withTestDirectory { directory in
            try await withStore(in: directory) { store async throws in
                _ = try await store.load(path: try archive("damaged", damaged, in: directory))
                try await store.lease(imageID: damaged.id, holder: "container")
                try await store.database.write {
                    try $0.execute(sql: "UPDATE image SET size = 'x'")
                    try $0.execute(sql: "UPDATE layer SET entries = 'x'")
                }
            }
            let files = directory.stored
            try await withStore(in: directory) { store async throws in
                #expect(directory.stored == files)
                try await store.remove(damaged.id)
                #expect(directory.stored == files && files.count == 2)
                try await store.releaseLeases(holder: "container")
                #expect(directory.stored.isEmpty)
                #expect(try await store.database.read { try $0.tableNamesWithRows }.isEmpty)
            }
        }
    }

    /// No error and no line of the log quotes what an image's configuration holds.
    @Test func aDamagedConfigurationIsNotQuoted() async throws {
        let secret = "UPDATE image SET config = CAST('{\"architecture\": 1, \"PASSWORD\": \"hunter2\"}' AS BLOB) WHERE id = ?1"
        try await withDamage(secret) { store, _, log async throws in
            let error = await #expect(throws: SwiftletError.self) { try await store.rootfs(of: damaged.id) }
            #expect(error?.description.contains("hunter2") == false)
            #expect(!log.lines.isEmpty && !log.lines.contains { $0.contains("hunter2") })
        }
    }

    @Test func aNameThatCannotBeReadIsMissingUntilItIsGivenAgain() async throws {
        let sql = "UPDATE imageName SET isDigest = 'x' WHERE imageID = ?1 AND isDigest = 0"
        try await withDamage(sql) { store, directory, _ async throws in
            #expect(try await store.status(damaged.id)?.repoTags == [])
            _ = try await store.load(path: try archive("damaged", damaged, in: directory))
            #expect(try await store.status(damaged.id)?.repoTags == ["docker.io/library/damaged:v1"])
        }
    }
}
