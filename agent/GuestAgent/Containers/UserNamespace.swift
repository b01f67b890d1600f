import AgentProtocol
import CContainer
import Errors
import Glibc
import Linux

/// The user namespace of a pod: its containers' ids are others in the guest.
final class UserNamespace: Sendable {
    struct Mapping: Sendable, Equatable {
        var container: UInt32
        var guest: UInt32
        var length: UInt32

        func guestID(_ id: UInt32) -> UInt32? {
            id >= container && id - container < length ? guest + (id - container) : nil
        }
    }

    /// The kernel's limit (UID_GID_MAP_MAX_EXTENTS).
    private static let mostMappings = 340

    let uids: [Mapping]
    let gids: [Mapping]
    /// The namespace's file, which keeps it.
    let file: OwnedDescriptor

    /// - Throws: `.invalidArgument` for mappings that user_namespaces(7) does not allow, and without one for root.
    init(_ spec: AgentUserNamespace) throws(SwiftletError) {
        uids = try Self.mappings(spec.uids, "uids")
        gids = try Self.mappings(spec.gids, "gids")
        var process: Int32 = -1
        let pid = cc_hold_user_namespace(&process)
        guard pid > 0 else { throw .system("make a user namespace") }
        let holder = OwnedDescriptor(process)
        defer {
            cc_signal(holder.number, SIGKILL)
            waitForExit(holder, milliseconds: 5000)
            var status: Int32 = 0
            waitpid(pid, &status, WNOHANG)
        }
        try KernelFile.write(Self.text(uids), to: "/proc/\(pid)/uid_map")
        try KernelFile.write(Self.text(gids), to: "/proc/\(pid)/gid_map")
        file = try OwnedDescriptor(result: open("/proc/\(pid)/ns/user", O_RDONLY | O_CLOEXEC), "open the user namespace")
    }

    static func mappings(_ specs: [AgentIdMapping], _ field: String) throws(SwiftletError) -> [Mapping] {
        guard (1...mostMappings).contains(specs.count) else {
            throw SwiftletError(.invalidArgument, "user namespace: \(specs.count) \(field), 1 to \(mostMappings) are possible")
        }
        var mappings: [Mapping] = []
        for spec in specs {
            let mapping = Mapping(container: spec.containerID, guest: spec.hostID, length: spec.length)
            // 2^32-1 is nobody's id.
            let end = UInt64(UInt32.max)
            guard mapping.length > 0, UInt64(mapping.container) + UInt64(mapping.length) <= end,
                UInt64(mapping.guest) + UInt64(mapping.length) <= end
            else { throw SwiftletError(.invalidArgument, "user namespace: \(field) leave the range of ids") }
            mappings.append(mapping)
        }
        guard mappings.contains(where: { $0.guestID(0) != nil }) else {
            throw SwiftletError(.invalidArgument, "user namespace: \(field) have no mapping for id 0 of the container")
        }
        return mappings
    }

    private static func text(_ mappings: [Mapping]) -> String {
        mappings.map { "\($0.container) \($0.guest) \($0.length)\n" }.joined()
    }

    /// The guest's id for one of the container; nil for one without.
    func guestUID(_ id: UInt32) -> UInt32? { uids.lazy.compactMap { $0.guestID(id) }.first }

    func guestGID(_ id: UInt32) -> UInt32? { gids.lazy.compactMap { $0.guestID(id) }.first }

    /// The container's root as the guest calls it.
    var root: (uid: UInt32, gid: UInt32) { (guestUID(0) ?? 0, guestGID(0) ?? 0) }

    /// - Throws: `.invalidArgument` naming an id of `user` that the namespace does not map.
    func require(_ user: ResolvedUser) throws(SwiftletError) {
        guard guestUID(user.uid) != nil else {
            throw SwiftletError(.invalidArgument, "uid \(user.uid) is not mapped in the pod's user namespace")
        }
        for gid in [user.gid] + user.additionalGIDs where guestGID(gid) == nil {
            throw SwiftletError(.invalidArgument, "gid \(gid) is not mapped in the pod's user namespace")
        }
    }

    /// Whether the mappings are those of `spec`.
    func matches(_ spec: AgentUserNamespace) -> Bool {
        (try? Self.mappings(spec.uids, "uids")) == uids && (try? Self.mappings(spec.gids, "gids")) == gids
    }
}
