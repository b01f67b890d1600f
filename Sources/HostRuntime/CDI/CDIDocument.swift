import Errors
import Foundation
import Runtime
import YAML

/// A file of the Container Device Interface: devices of one kind, and what a container is given with them.
/// https://github.com/cncf-tags/container-device-interface/blob/v0.8.0/SPEC.md
struct CDIDocument: Decodable, Sendable, Equatable {
    struct Device: Decodable, Sendable, Equatable {
        var name: String
        var edits: CDIEdits

        private enum CodingKeys: String, CodingKey, CaseIterable { case name, annotations, containerEdits }

        init(from decoder: any Decoder) throws {
            let container = try decoder.knownFields(CodingKeys.self)
            name = try container.decode(String.self, forKey: .name)
            edits = try container.decodeIfPresent(CDIEdits.self, forKey: .containerEdits) ?? CDIEdits()
        }
    }

    /// 1.0.0 has the fields of 0.8.0.
    static let versions = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0"]

    var kind: String
    var devices: [Device]
    /// For each container that has one of the devices.
    var edits: CDIEdits

    private enum CodingKeys: String, CodingKey, CaseIterable { case cdiVersion, kind, annotations, devices, containerEdits }

    init(from decoder: any Decoder) throws {
        // Of a newer version it is the version that is said to be wrong, not its fields.
        let version = try decoder.container(keyedBy: CodingKeys.self).decode(String.self, forKey: .cdiVersion)
        guard Self.versions.contains(version) else {
            throw SwiftletError(
                .invalidArgument, "cdiVersion \(quoted(version)) is none of \(Self.versions.joined(separator: ", "))")
        }
        let container = try decoder.knownFields(CodingKeys.self)
        kind = try container.decode(String.self, forKey: .kind)
        devices = try container.decode([Device].self, forKey: .devices)
        edits = try container.decodeIfPresent(CDIEdits.self, forKey: .containerEdits) ?? CDIEdits()
        var names: Set<String> = []
        for device in devices {
            guard CDIDevice(kind: kind, name: device.name) != nil else {
                throw SwiftletError(
                    .invalidArgument, "kind \(quoted(kind)), device \(quoted(device.name)): no name as vendor.com/class=name is")
            }
            guard names.insert(device.name).inserted else {
                throw SwiftletError(.invalidArgument, "there are two devices \(quoted(device.name))")
            }
        }
    }

    /// Values of a YAML file, of which each line may be one.
    private static let mostValues = 200_000

    /// - Parameter isYAML: else it is JSON.
    /// - Throws: `.invalidArgument` saying what is wrong where.
    static func read(_ bytes: [UInt8], isYAML: Bool) throws -> CDIDocument {
        do {
            guard isYAML else { return try JSONDecoder().decode(CDIDocument.self, from: Data(bytes)) }
            guard let text = String(validating: bytes, as: UTF8.self) else { throw SwiftletError(.invalidArgument, "it is no UTF-8") }
            let limits = YAMLReader.Limits(bytes: max(bytes.count, 1), nodes: mostValues)
            let value = try YAMLReader.read(text, limits: limits)?.json ?? .object([:])
            return try JSONDecoder().decode(CDIDocument.self, from: JSONEncoder().encode(value))
        } catch let error as DecodingError {
            throw SwiftletError(.invalidArgument, error.reason)
        }
    }
}

/// Any field's name.
private struct FieldName: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { return nil }
}

extension Decoder {
    /// The object's fields; one that is unknown would be left out, and with it what a device needs.
    ///
    /// - Throws: `.invalidArgument` naming it.
    func knownFields<Key: CodingKey & CaseIterable>(_: Key.Type) throws -> KeyedDecodingContainer<Key> {
        let known = Set(Key.allCases.map(\.stringValue))
        if let unknown = try container(keyedBy: FieldName.self).allKeys.first(where: { !known.contains($0.stringValue) }) {
            throw SwiftletError(.invalidArgument, "field \(quoted(unknown.stringValue)) is unknown")
        }
        return try container(keyedBy: Key.self)
    }
}
