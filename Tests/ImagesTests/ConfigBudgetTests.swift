import Errors
import Foundation
import Support
import Testing

@testable import Images

/// What the configuration of one image can cost the node and the lists of others.
@Suite(.timeLimit(.minutes(2))) struct ConfigBudgetTests {
    private func archive(_ name: String, _ directory: URL, _ change: (inout OCIImageBuilder) -> Void) throws -> String {
        var builder = OCIImageBuilder(layers: [layer("file", "x")])
        change(&builder)
        return try directory.file("\(name).tar", OCIImageBuilder.archive([("\(name):v1", builder.build())]))
    }

    @Test func aLongFieldIsRefusedByItsName() async throws {
        func text(_ length: Int) -> String { String(repeating: "x", count: length) }
        let cases: [(name: String, most: (inout OCIImageBuilder) -> Void, over: (inout OCIImageBuilder) -> Void)] = [
            ("User", { $0.user = text(256) }, { $0.user = text(257) }),
            ("WorkingDir", { $0.workingDir = "/" + text(4094) }, { $0.workingDir = "/" + text(4095) }),
            ("StopSignal", { $0.stopSignal = text(64) }, { $0.stopSignal = text(65) }),
            ("Env", { $0.env = ["A=" + text(131_069)] }, { $0.env = ["A=" + text(131_070)] }),
            ("Entrypoint", { $0.entrypoint = [text(131_071)] }, { $0.entrypoint = ["/x", text(131_072)] }),
            ("Cmd", { $0.cmd = [text(131_071)] }, { $0.cmd = ["/x", text(131_072)] }),
        ]
        try await withStore { store, directory async throws in
            for (name, most, over) in cases {
                let image = try #require(try await store.load(path: try archive("most", directory, most)).first)
                #expect(try await store.list().map(\.id) == [image.id], "\(name)")
                try await store.remove(image.id)
                let path = try archive("over", directory, over)
                let error = await #expect(throws: SwiftletError.self) { try await store.load(path: path) }
                #expect(error?.code == .invalidArgument && error?.message.contains("\(name) of") == true, "\(error?.message ?? "")")
                #expect(error.map { $0.message.utf8.count < 300 } == true, "names the field and does not quote it")
                #expect(directory.stored.isEmpty)
            }
        }
    }

    @Test func aConfigurationOfMoreThanAMebibyteIsRefused() async throws {
        try await withStore { store, directory async throws in
            let fits = try archive("fits", directory) { $0.labels = ["filler": String(repeating: "f", count: (1 << 20) - 1000)] }
            let large = try archive("large", directory) { $0.labels = ["filler": String(repeating: "f", count: 1 << 20)] }
            #expect(try await store.load(path: fits).count == 1)
            let error = await #expect(throws: SwiftletError.self) { try await store.load(path: large) }
            #expect(error?.message.contains("1048576") == true, "\(error?.message ?? "")")
        }
    }

    /// Lists cost the same, however much the images say about themselves.
    @Test func listsReadNoConfiguration() async throws {
        try await withStore { store, directory async throws in
            let path = try archive("app", directory) {
                $0.user = "1000:50"
                $0.labels = ["filler": String(repeating: "f", count: 900_000)]
            }
            let image = try #require(try await store.load(path: path).first)
            #expect(image.user.uid == 1000)
            try await store.database.write { try $0.execute(sql: "UPDATE image SET config = x'00'") }
            #expect(try await store.list() == [image])
            // Who makes containers of it notices.
            #expect(try await store.status(image.id) == nil)
        }
    }
}
