import Errors
import Runtime

/// Where in a pod's mounts something is that an annotation names.
enum MountSource: Sendable, Equatable {
    enum Kind: String, Sendable {
        case configMap = "configmap"
        case secret

        /// The kubelet's directory of such volumes.
        var plugin: String { "kubernetes.io~\(rawValue)" }
        var object: String { self == .configMap ? "ConfigMap" : "Secret" }
    }

    /// A mount of the container, or something in it.
    case path(String)
    /// Virtlet's way. The CRI does not say which object a volume is of: the volume of that name counts.
    case volume(Kind, name: String, key: String?)

    /// The mount, and what in it is named; nil for all of it.
    ///
    /// - Throws: `.invalidArgument` saying what to mount.
    func find(in mounts: [ContainerMount]) throws -> (mount: ContainerMount, key: String?) {
        let mounts = mounts.filter { !$0.hostPath.isEmpty }
        switch self {
        case .path(let path):
            let found = mounts.compactMap { mount in GuestPath(mount.containerPath).map { (mount: mount, path: $0.text) } }
                .filter { path == $0.path || path.hasPrefix($0.path + "/") }
                .max { $0.path.utf8.count < $1.path.utf8.count }
            guard let found else {
                throw SwiftletError(
                    .invalidArgument, "\(printable(path)) is in none of the container's mounts; mount the ConfigMap or Secret there")
            }
            let rest = path.utf8.dropFirst(found.path.utf8.count + 1)
            return (found.mount, rest.isEmpty ? nil : String(decoding: rest, as: UTF8.self))
        case .volume(let kind, let name, let key):
            // PODS/UID/volumes/kubernetes.io~configmap/VOLUME
            let places = ["/volumes/\(kind.plugin)/\(name)", "/volumes/kubernetes.io~projected/\(name)"]
            guard let mount = mounts.first(where: { mount in places.contains { mount.hostPath.hasSuffix($0) } }) else {
                throw SwiftletError(
                    .invalidArgument,
                    "\(kind.rawValue)/\(printable(name)): the container mounts no volume \(quoted(name)) of a \(kind.object); "
                        + "mount one of that name, or name the mount's path in an annotation of Swiftlet's")
            }
            return (mount, key)
        }
    }
}
