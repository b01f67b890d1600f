import CLinux
import Errors
import Glibc
import Linux
import Runtime

extension IDMappings {
    /// A user namespace that only carries the maps, for mount_setattr(2). The descriptor is the caller's.
    func userNamespace() throws -> Int32 {
        let (uidMap, gidMap) = (Self.text(uids), Self.text(gids))
        let descriptor = ForkGate.hold { clinux_user_namespace(uidMap, uidMap.utf8.count, gidMap, gidMap.utf8.count) }
        guard descriptor >= 0 else { throw SwiftletError.system("make a user namespace for id mappings") }
        return descriptor
    }

    private static func text(_ mappings: [IDMapping]) -> String {
        mappings.map { "\($0.containerID) \($0.hostID) \($0.length)\n" }.joined()
    }
}
