import AgentProtocol
import CContainer
import CLinux
import Errors
import Glibc
import Linux

/// The sources of a container's mounts that the guest has to bring first: parts of the pod's share, images, memory volumes.
struct ContainerVolumes: Sendable {
    /// The spec's mounts, all of them with sources in the agent's own tree.
    private(set) var mounts: [AgentMountSpec] = []
    /// In the order in which they were made.
    private var mountPoints: [String] = []

    static let types: Set<String> = ["share", "image", "memory"]

    /// - Parameter directory: the container's own, for mount points.
    /// - Throws: errors naming the destination, after everything has been undone.
    init(_ spec: AgentContainerSpec, directory: String, environment: SandboxEnvironment) throws(SwiftletError) {
        for (index, mount) in spec.mounts.enumerated() {
            do throws(SwiftletError) {
                var resolved = mount
                if Self.types.contains(mount.type) {
                    resolved.source = try source(
                        of: mount, tag: spec.shareTag, directory: "\(directory)/volume-\(index)", environment: environment)
                    resolved.type = "bind"
                }
                mounts.append(resolved)
            } catch {
                release()
                throw error.during("mount \(printable(mount.destination))")
            }
        }
    }

    private mutating func source(
        of mount: AgentMountSpec, tag: String, directory: String, environment: SandboxEnvironment
    ) throws(SwiftletError) -> String {
        switch mount.type {
        case "share":
            // Without "..": the host made the path, and below it only the host makes links.
            let path = try environment.shareDirectory(tag) + containerPath("/" + mount.source, "share path")
            var status = stat()
            guard stat(path, &status) == 0 else { throw .system("open \(printable(mount.source)) of the pod's share") }
            mountPoints.append(path)
            return path
        case "image":
            try makeDirectory(directory)
            var made: [String] = []
            defer { mountPoints += made }
            let files = try ImageVolume.mount(mount.layers, below: directory, environment: environment) { made.append($0) }
            guard !mount.subPath.isEmpty else { return files }
            do throws(SwiftletError) {
                return try part(mount.subPath, of: files, like: nil, at: "\(directory)/part") { made.append($0) }
            } catch {
                // The name by which a kubelet tells this failure from others (cri-api, pkg/errors).
                throw error.during("ImageVolumeMountFailed: image_sub_path \(printable(mount.subPath))")
            }
        default:
            let volume = try environment.memoryVolumes.path(mount.memory)
            guard !mount.subPath.isEmpty else { return volume }
            try makeDirectory(directory)
            var made: [String] = []
            defer { mountPoints += made }
            return try part(mount.subPath, of: volume, like: mount.memory, at: "\(directory)/part") { made.append($0) }
        }
    }

    /// Mounts a part of a volume at `place`: links in the volume lead nowhere but into it.
    private func part(
        _ subPath: String, of volume: String, like memory: AgentMemoryVolume?, at place: String, mounted: (String) -> Void
    ) throws(SwiftletError) -> String {
        let root = try OwnedDescriptor(result: open(volume, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open \(volume)")
        let path = try containerPath("/" + subPath, "sub path")
        if let memory { try makeDirectories(path, in: root, like: memory) }
        let found = try OwnedDescriptor(result: cc_find_in_root(root.number, path), "find \(printable(subPath)) in the volume")
        var status = stat()
        guard fstat(found.number, &status) == 0 else { throw .system("look at \(printable(subPath))") }
        switch status.st_mode & S_IFMT {
        case S_IFDIR: try makeDirectory(place)
        case S_IFREG: try SmallFile.create(place, holding: "")
        default: throw SwiftletError(.invalidArgument, "\(printable(subPath)) is neither a directory nor a regular file")
        }
        let tree = try OwnedDescriptor(result: clinux_clone_tree(found.number, 0), "clone the mount of \(printable(subPath))")
        guard clinux_attach_tree(tree.number, place) == 0 else { throw .system("mount \(printable(subPath))") }
        mounted(place)
        return place
    }

    /// Makes what is missing of a path, each directory in the one that its parent leads to and as the volume's own.
    private func makeDirectories(_ path: String, in root: OwnedDescriptor, like volume: AgentMemoryVolume) throws(SwiftletError) {
        var done = ""
        for name in path.split(separator: "/") {
            let parent = try OwnedDescriptor(result: cc_find_in_root(root.number, done.isEmpty ? "." : done), "find \(printable(done))")
            // What is there is seen by the look-up that follows.
            let isNew = mkdirat(parent.number, String(name), 0o700) == 0
            guard isNew || errno == EEXIST else { throw .system("make \(printable(done))/\(name)") }
            done += "/\(name)"
            guard isNew else { continue }
            // By descriptor: another container may have put something else there by now. The owner first, since it takes set-id
            // bits away.
            let made = try OwnedDescriptor(result: cc_find_in_root(root.number, done), "find \(printable(done))")
            guard chown(made.path, volume.uid, volume.gid) == 0, chmod(made.path, mode_t(volume.mode)) == 0 else {
                throw .system("give \(printable(done)) the volume's owner and mode")
            }
        }
    }

    /// Unmounts what was mounted here. Lazily: what a process still uses stays for it.
    func release() {
        for path in mountPoints.reversed() { cc_unmount(path) }
    }
}
