import Errors
import Foundation
import Testing

@testable import CloudInit

/// docs/vm-pods.md lists every annotation that is read, and no other.
@Suite struct AnnotationsTableTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..").standardizedFileURL

    private static func documented() throws -> [(own: String?, virtlet: String?)] {
        let text = try String(contentsOf: root.appending(path: "docs/vm-pods.md"), encoding: .utf8)
        let section = try #require(text.components(separatedBy: "\n## Annotations\n").last?.components(separatedBy: "\n## ").first)
        return section.split(separator: "\n").filter { $0.hasPrefix("| ") }.compactMap { line in
            let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            let own = cells[0].firstMatch(of: /^`swiftlet\/([a-z-]+)`$/).map { String($0.1) }
            let virtlet = cells[1].firstMatch(of: /^`(Virtlet\w+)`$/).map { String($0.1) }
            return own == nil && virtlet == nil ? nil : (own, virtlet)
        }
    }

    @Test func everyAnnotationIsInTheTable() throws {
        let directory = Self.root.appending(path: "Sources/CloudInit/Annotations")
        let files = try FileManager.default.contentsOfDirectory(at: directory, includingPropertiesForKeys: nil)
        let source = try files.map { try String(contentsOf: $0, encoding: .utf8) }.joined()
        let table = try Self.documented()
        let asked = source.matches(of: /(?:take|choice|flag|bytes|source)\(\s*"([a-z-]+)"/).map { String($0.1) }
        #expect(asked.count > 20)
        #expect(Set(asked).subtracting(["scratch-size"]) == Set(table.compactMap(\.own)))
        #expect(Set(source.matches(of: /"(Virtlet\w+)"/).map { String($0.1) }) == Set(table.compactMap(\.virtlet)))
    }

    @Test func whatIsInTheTableIsKnown() throws {
        for row in try Self.documented() {
            guard let own = row.own else { continue }
            do { _ = try VMAnnotations(pod: ["swiftlet/\(own)": ""]) } catch let error as SwiftletError {
                #expect(!error.message.contains("no such annotation"), "\(own)")
            }
            guard let virtlet = row.virtlet else { continue }
            let both = #expect(throws: SwiftletError.self) { try VMAnnotations(pod: ["swiftlet/\(own)": "", virtlet: ""]) }
            #expect(both?.message.contains("swiftlet/\(own)") == true, "\(own): \(both?.message ?? "")")
        }
    }
}
