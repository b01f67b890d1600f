import Foundation
import Testing
import YAML

@testable import CloudInit

/// What the manifests in examples/ ask for is known.
@Suite struct ExamplesTests {
    private static let directory = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../examples")
        .standardizedFileURL

    @Test func annotationsOfAllExamplesAreTaken() throws {
        let files = try FileManager.default.contentsOfDirectory(at: Self.directory, includingPropertiesForKeys: nil)
        #expect(files.count > 5)
        var annotated = 0
        for file in files {
            let name = file.lastPathComponent
            let manifest = try #require(try YAMLReader.read(String(contentsOf: file, encoding: .utf8)), "\(name)")
            guard manifest["kind"]?.text == "Pod" else { continue }
            #expect(manifest["spec"]?["runtimeClassName"]?.text == "vm", "\(name)")
            guard case .mapping(let members) = manifest["metadata"]?["annotations"] else { continue }
            annotated += 1
            let annotations = Dictionary(uniqueKeysWithValues: members.map { ($0.key.text, $0.value.text ?? "") })
            #expect(throws: Never.self, "\(name)") { try VMAnnotations(pod: annotations) }
        }
        #expect(annotated >= 3)
    }
}
