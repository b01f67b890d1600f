import Errors
import Foundation

/// A document of the state database, in JSON with its version: `{"version": 2, …}`.
///
/// Documents outlive releases: one of an older version is brought up to date step by step, one of a newer version is refused by name.
/// Version 1 is what Swiftlet 0.1.0 wrote, without a version in it.
public protocol StoredDocument: Codable, Sendable {
    /// For messages: "pod sandbox record".
    static var what: String { get }
    static var version: Int { get }
    /// Brings the JSON of a document from `version` to the next one.
    static func upgrade(_ document: inout [String: Any], from version: Int) throws
}

extension StoredDocument {
    public static var version: Int { 1 }
    public static func upgrade(_ document: inout [String: Any], from version: Int) throws {}
}

extension StoredDocument {
    /// The document with its version.
    public func stored() throws -> Data {
        try JSONEncoder().encode(Versioned(version: Self.version, body: self))
    }

    /// The document in a file. Blocks.
    ///
    /// - Throws: `.notFound` without a file; `.unavailable` for one that cannot be read now; else as ``init(stored:)``.
    public static func read(_ path: String) throws -> Self {
        let data: Data
        do {
            data = try Data(contentsOf: URL(fileURLWithPath: path))
        } catch CocoaError.fileReadNoSuchFile {
            throw SwiftletError(.notFound, "\(path) is not there")
        } catch {
            throw SwiftletError(.unavailable, "read \(path)", cause: error)
        }
        return try Self(stored: data)
    }

    /// - Throws: `.dataLoss` for what is no such document; `.failedPrecondition` for one of a newer version.
    public init(stored data: Data) throws {
        do {
            let version = try JSONDecoder().decode(VersionOnly.self, from: data).version ?? 1
            guard version <= Self.version else {
                throw SwiftletError(
                    .failedPrecondition,
                    "\(Self.what) of version \(version); this Swiftlet knows versions up to \(Self.version): start the one that wrote it")
            }
            self = try JSONDecoder().decode(Self.self, from: Self.upgraded(data, from: version))
        } catch let error as SwiftletError {
            throw error
        } catch {
            // Without its contents: they hold tenants' environments.
            let reason = (error as? DecodingError)?.reason ?? "it is malformed"
            throw SwiftletError(.dataLoss, "\(Self.what) cannot be read: \(reason)")
        }
    }

    private static func upgraded(_ data: Data, from version: Int) throws -> Data {
        guard version < Self.version else { return data }
        guard var document = try JSONSerialization.jsonObject(with: data) as? [String: Any] else {
            throw SwiftletError(.dataLoss, "\(what) is no JSON object")
        }
        for step in version..<Self.version { try upgrade(&document, from: step) }
        return try JSONSerialization.data(withJSONObject: document)
    }
}

/// Both keep their members in one JSON object.
private struct Versioned<Body: Encodable>: Encodable {
    var version: Int
    var body: Body

    private enum CodingKeys: CodingKey {
        case version
    }

    func encode(to encoder: any Encoder) throws {
        try body.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(version, forKey: .version)
    }
}

private struct VersionOnly: Decodable {
    var version: Int?
}
