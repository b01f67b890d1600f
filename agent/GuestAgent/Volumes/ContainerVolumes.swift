import AgentProtocol
import CContainer
import Errors

/// The sources of a container's mounts that the guest has to bring first.
struct ContainerVolumes: Sendable {
    /// The spec's mounts, all of them with sources in the agent's own tree.
    private(set) var mounts: [AgentMountSpec] = []
    /// In the order in which they were made.
    private var mountPoints: [String] = []

    /// - Parameters:
    ///   - directory: the container's own, for mount points.
    ///   - namespace: the container's; nil: the guest's own.
    /// - Throws: errors naming the destination, after everything has been undone.
    init(
        _ spec: AgentContainerSpec, directory: String, environment: SandboxEnvironment, namespace: UserNamespace?
    ) throws(SwiftletError) {
        for (kind, asked) in Self.requests(spec, directory: directory, environment: environment) {
            var request = asked
            request.namespace = namespace
            do throws(SwiftletError) {
                var mount = request.mount
                if let kind {
                    var made: [String] = []
                    defer { mountPoints += made }
                    mount.source = try kind.bring(request) { made.append($0) }
                    mount.type = "bind"
                }
                mounts.append(mount)
            } catch {
                release()
                throw error.during("mount \(printable(request.mount.destination))")
            }
        }
    }

    /// What has to be plugged into the guest before a container of this spec is made.
    ///
    /// - Throws: `.invalidArgument` naming the destination.
    static func devices(_ spec: AgentContainerSpec, environment: SandboxEnvironment) throws(SwiftletError) -> AwaitedDevices {
        var devices = AwaitedDevices()
        for (kind, request) in requests(spec, directory: "", environment: environment) {
            guard let kind else { continue }
            do throws(SwiftletError) {
                devices.formUnion(try kind.devices(for: request))
            } catch {
                throw error.during("mount \(printable(request.mount.destination))")
            }
        }
        return devices
    }

    private static func requests(
        _ spec: AgentContainerSpec, directory: String, environment: SandboxEnvironment
    ) -> [(kind: (any VolumeKind)?, request: VolumeRequest)] {
        spec.mounts.enumerated().map { index, mount in
            let request = VolumeRequest(
                mount: mount, shareTag: spec.shareTag, directory: "\(directory)/volume-\(index)", diskPath: environment.diskPath)
            return (environment.volumes.kind(of: mount), request)
        }
    }

    /// Unmounts what was mounted here. Lazily: what a process still uses stays for it.
    func release() {
        for path in mountPoints.reversed() { cc_unmount(path) }
    }
}
