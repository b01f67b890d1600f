import Foundation

/// The files of the checkout that these tests were built from.
enum Repository {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// Path from the root and text of each file of that kind below `directory`.
    static func files(_ kind: String, below directory: String) throws -> [(path: String, text: String)] {
        let base = root.appendingPathComponent(directory)
        let paths = FileManager.default.enumerator(atPath: base.path)?.compactMap { $0 as? String } ?? []
        return try paths.filter { $0.hasSuffix(kind) }.sorted().map { path in
            ("\(directory)/\(path)", try String(contentsOf: base.appendingPathComponent(path), encoding: .utf8))
        }
    }
}
