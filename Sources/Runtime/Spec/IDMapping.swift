import Errors

/// A range of ids as a mount shows them: `hostID` on disk appears as… (CRI: IDMapping).
public struct IDMapping: Codable, Sendable, Equatable {
    /// First id in the user namespace.
    public var containerID: UInt32
    /// First id outside.
    public var hostID: UInt32
    public var length: UInt32

    public init(containerID: UInt32, hostID: UInt32, length: UInt32) {
        self.containerID = containerID
        self.hostID = hostID
        self.length = length
    }

    /// A range that came from a client.
    ///
    /// - Throws: `.invalidArgument` for an empty range and for one with 2^32-1 in it, which is nobody's id (user_namespaces(7)).
    public init(validating containerID: UInt32, hostID: UInt32, length: UInt32) throws(SwiftletError) {
        // The id behind the last one has 32 bits too.
        let (_, overflows) = max(hostID, containerID).addingReportingOverflow(length)
        guard length > 0, !overflows else {
            throw SwiftletError(
                .invalidArgument, "container_id \(containerID), host_id \(hostID), length \(length) is no range of ids")
        }
        self.init(containerID: containerID, hostID: hostID, length: length)
    }
}

/// Both maps of an id-mapped mount.
public struct IDMappings: Codable, Sendable, Equatable {
    public var uids: [IDMapping]
    public var gids: [IDMapping]

    public init(uids: [IDMapping], gids: [IDMapping]) {
        self.uids = uids
        self.gids = gids
    }
}
