import FoundationEssentials

/// Tells a machine from every other on the node: the UUID of its domain.
///
/// It is not the pod's id: a machine can exist before its pod.
public struct MachineID: Sendable, Hashable, CustomStringConvertible {
    public let uuid: UUID

    public init(_ uuid: UUID) { self.uuid = uuid }

    /// - Parameter text: a UUID in either case; nil for anything else.
    public init?(_ text: String) {
        guard let uuid = UUID(uuidString: text) else { return nil }
        self.uuid = uuid
    }

    /// In lower case, as libvirt writes it.
    public var description: String { uuid.uuidString.lowercased() }
}

extension MachineID: Codable {
    public init(from decoder: any Decoder) throws { uuid = try decoder.singleValueContainer().decode(UUID.self) }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(uuid)
    }
}
