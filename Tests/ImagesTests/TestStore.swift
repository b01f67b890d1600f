import Foundation
import Logging
import State
import Support
import Testing

@testable import Images

/// An image store in a directory of its own.
func withStore(
    _ change: (inout ImageStoreConfiguration) -> Void = { _ in }, _ body: (ImageStore, URL) async throws -> Void
) async throws {
    try await withTestDirectory { directory in
        try await withStore(in: directory, change) { try await body($0, directory) }
    }
}

/// Opens the store of `directory` while `body` runs.
func withStore(
    in directory: URL, files: LayerFiles = .disk, log: RecordedLog? = nil, _ change: (inout ImageStoreConfiguration) -> Void = { _ in },
    _ body: (ImageStore) async throws -> Void
) async throws {
    var configuration = ImageStoreConfiguration(root: directory.appendingPathComponent("images").path, retryDelay: .milliseconds(1))
    configuration.diskInspector = try builtProgram("swiftlet-diskinfo")
    change(&configuration)
    let database = try StateDatabase(path: directory.appendingPathComponent("state.db").path)
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    let store = try await ImageStore(configuration: configuration, database: database, logger: log?.logger ?? logger, files: files)
    do {
        try await body(store)
        await store.shutdown()
    } catch {
        await store.shutdown()
        throw error
    }
}

/// A program that was built with the tests.
func builtProgram(_ name: String) throws -> String {
    let bundle = Bundle.main.bundleURL
    let candidates = [bundle, bundle.deletingLastPathComponent()].map { $0.appending(path: name).path }
    return try #require(candidates.first { FileManager.default.isExecutableFile(atPath: $0) }, "\(name) is not built")
}

extension URL {
    /// Files of the store in this test directory.
    var stored: [String] {
        appendingPathComponent("images").tree.filter { $0 != "layers" && $0 != "partial" }
    }
}

/// A layer with one file.
func layer(_ path: String, _ content: Data) -> Data {
    var tar = TarBuilder()
    tar.file(path, content)
    return tar.finished()
}

func layer(_ path: String, _ content: String) -> Data {
    layer(path, Data(content.utf8))
}
