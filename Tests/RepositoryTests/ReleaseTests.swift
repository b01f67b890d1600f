import SwiftletVersion
import Testing

@Suite struct ReleaseTests {
    /// The programs are released together: each says the one version, and none has a copy of it.
    @Test func everyProgramHasTheOneVersion() throws {
        let sources = try Repository.files(".swift", below: "Sources") + Repository.files(".swift", below: "agent")
        let programs = sources.filter { $0.text.contains("@main") || $0.text.contains("enum Boot") }
        #expect(programs.count == 8)
        #expect(programs.filter { !$0.text.contains("swiftletVersion") }.map(\.path) == [])
        let copies = sources.filter {
            $0.text.contains("version = \"\(swiftletVersion)\"") || $0.text.contains("version: \"\(swiftletVersion)\"")
        }
        // The kubelet's runtime API has a version of its own.
        #expect(copies.map(\.path) == ["Sources/CRIServer/RuntimeService+Configuration.swift"])
    }
}
