import Foundation
import Testing

@Suite struct PromiseTests {
    /// Each `Target/test()` of the page is a function of a file of that target.
    @Test(arguments: [("SPEC.md", 100), ("docs/security.md", 30)])
    func everyPromiseIsKeptByATestThatExists(_ path: String, _ least: Int) throws {
        let page = try String(contentsOf: Repository.root.appendingPathComponent(path), encoding: .utf8)
        let named = page.matches(of: /`(\w+)\/(\w+)\([\w:]*\)`/).map { (target: String($0.1), test: String($0.2)) }.filter {
            $0.target != "Target"
        }
        #expect(named.count > least)
        let texts = try Repository.files(".swift", below: "Tests")
        let absent = named.filter { target, test in
            !texts.contains { path, text in path.hasPrefix("Tests/\(target)/") && text.contains("func \(test)(") }
        }
        #expect(absent.map { "\($0.target)/\($0.test)" } == [])
    }
}
