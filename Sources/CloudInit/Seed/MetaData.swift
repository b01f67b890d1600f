import Errors
import Foundation
import Runtime
import YAML

/// Who the guest is. JSON, which is YAML as well, because CirrOS reads nothing else.
struct MetaData {
    private let instanceID: String
    private let hostname: String
    private let keys: [String]
    private let changes: YAMLValue?

    init(_ request: SeedRequest) {
        instanceID = request.annotations.instanceID ?? request.pod.uid
        hostname = request.hostname
        keys = request.data.sshKeys
        changes = request.annotations.metaData
    }

    func noCloud() throws -> [UInt8] {
        try SeedJSON.encode(
            .object(merged(["instance-id": .string(instanceID), "local-hostname": .string(hostname), "public-keys": keyList])))
    }

    /// Under OpenStack's names, and under EC2's as Virtlet wrote them.
    func configDrive() throws -> [UInt8] {
        let named = Dictionary(uniqueKeysWithValues: keys.enumerated().map { ("key-\($0.offset)", JSONValue.string($0.element)) })
        return try SeedJSON.encode(
            .object(
                merged([
                    "uuid": .string(instanceID), "hostname": .string(hostname), "name": .string(hostname),
                    "public_keys": keys.isEmpty ? nil : .object(named),
                    "instance-id": .string(instanceID), "local-hostname": .string(hostname), "public-keys": keyList,
                ])))
    }

    private var keyList: JSONValue? { keys.isEmpty ? nil : .array(keys.map { .string($0) }) }

    private func merged(_ own: [String: JSONValue?]) -> [String: JSONValue] {
        own.compactMapValues(\.self).merging(changes?.json.object ?? [:]) { $1 }
    }
}

enum SeedJSON {
    /// With its keys in order, so that equal seeds are equal.
    static func encode(_ value: JSONValue) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        return Array(try encoder.encode(value)) + [0x0A]
    }
}

/// What cloud-init reads beside the user's own data.
enum VendorData {
    /// ConfigDrive's form.
    static func json(_ text: String) throws -> [UInt8] { try SeedJSON.encode(.object(["cloud-init": .string(text)])) }
}
