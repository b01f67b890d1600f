import Errors
import Glibc
import Testing

@testable import Linux

/// A network namespace in a directory of its own, gone with the object.
final class TestNamespace: Sendable {
    let directory: String
    let path: String

    init() throws {
        var template = Array("/tmp/swiftlet-netns-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SwiftletError.system("making a temporary directory") }
        directory = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        path = directory + "/ns"
        try NetworkNamespace.create(at: path)
    }

    deinit {
        try? NetworkNamespace.delete(at: path)
        rmdir(directory)
    }
}

/// Runs `work` inside a fresh network namespace.
func withNamespace<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
    let namespace = try TestNamespace()
    return try await NetworkNamespace.run(in: namespace.path, work)
}

@Suite struct NetworkNamespaceTests {
    @Test func createIsIdempotentAndKeepsWhatIsInside() async throws {
        let namespace = try TestNamespace()
        try await NetworkNamespace.run(in: namespace.path) { try RouteNetlink().createVeth("a0", peer: "a1") }
        try NetworkNamespace.create(at: namespace.path)
        #expect(try await NetworkNamespace.run(in: namespace.path) { try RouteNetlink().links().count } == 3)
    }

    @Test func createMakesTheDirectoryAndReusesAFileLeftBehind() async throws {
        let namespace = try TestNamespace()
        let deep = namespace.directory + "/a/b/ns"
        try NetworkNamespace.create(at: deep)
        try NetworkNamespace.delete(at: deep)
        close(open(deep, O_CREAT | O_WRONLY, 0o600))
        #expect(!NetworkNamespace.isBound(at: deep))
        try NetworkNamespace.create(at: deep)
        #expect(NetworkNamespace.isBound(at: deep))
        try NetworkNamespace.delete(at: deep)
        rmdir(namespace.directory + "/a/b")
        rmdir(namespace.directory + "/a")
    }

    @Test func deleteIsIdempotentAndEndsTheNamespace() throws {
        let namespace = try TestNamespace()
        try NetworkNamespace.delete(at: namespace.path)
        try NetworkNamespace.delete(at: namespace.path)
        try NetworkNamespace.delete(at: namespace.directory + "/never/made")
        #expect(access(namespace.path, F_OK) != 0)
    }

    @Test func workRunsInTheNamespaceAndLeavesTheCallerWhereItWas() async throws {
        let namespace = try TestNamespace()
        let before = try RouteNetlink().links()
        let inside = try await NetworkNamespace.run(in: namespace.path) { try RouteNetlink().links().map(\.name) }
        #expect(inside == ["lo"])
        #expect(try RouteNetlink().links().map(\.name) == before.map(\.name))
    }

    @Test func aSocketStaysInTheNamespaceItWasOpenedIn() async throws {
        let namespace = try TestNamespace()
        let inside = try NetworkNamespace.runAndWait(in: namespace.path) { Transfer(netlink: try RouteNetlink()) }
        #expect(try inside.netlink.links().map(\.name) == ["lo"])
    }

    @Test func enteringWhatIsNoNamespaceIsNotFound() async throws {
        await #expect { try await NetworkNamespace.run(in: "/tmp", { 0 }) } throws: { ($0 as? SwiftletError)?.code == .notFound }
        await #expect { try await NetworkNamespace.run(in: "/nonexistent/ns", { 0 }) } throws: { ($0 as? SwiftletError)?.code == .notFound }
    }

    /// Handed from the thread that made it to the test, never shared: hence unchecked.
    private struct Transfer: @unchecked Sendable {
        let netlink: RouteNetlink
    }
}
