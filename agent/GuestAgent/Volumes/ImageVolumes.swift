import AgentProtocol
import CContainer
import Errors
import Glibc
import Linux

/// The files of images, mounted read-only: an image's layers stacked, without a writable one.
struct ImageVolumes: VolumeKind {
    func devices(for request: VolumeRequest) throws(SwiftletError) -> AwaitedDevices {
        let layers = request.mount.layers
        guard !layers.isEmpty, layers.count <= OverlayRoot.mostLayers else {
            throw SwiftletError(.invalidArgument, "an image has 1 to \(OverlayRoot.mostLayers) layers, this one \(layers.count)")
        }
        for layer in layers {
            guard layer.filesystem == "squashfs" || layer.filesystem == "erofs" else {
                throw SwiftletError(.invalidArgument, "layer filesystem \"\(printable(layer.filesystem))\" must be squashfs or erofs")
            }
        }
        return AwaitedDevices(disks: Set(layers.map(\.serial)))
    }

    func bring(_ request: VolumeRequest, mounted: (String) -> Void) throws(SwiftletError) -> String {
        _ = try devices(for: request)
        try makeDirectory(request.directory)
        let files = try mount(request, mounted)
        guard !request.mount.subPath.isEmpty else { return files }
        let place = "\(request.directory)/part"
        do throws(SwiftletError) {
            try VolumePart.mount(request.mount.subPath, of: files, at: place)
        } catch {
            // The name by which a kubelet recognizes this failure (cri-api, pkg/errors).
            throw error.during("ImageVolumeMountFailed: image_sub_path \(printable(request.mount.subPath))")
        }
        mounted(place)
        return place
    }

    /// - Returns: where the files are.
    private func mount(_ request: VolumeRequest, _ mounted: (String) -> Void) throws(SwiftletError) -> String {
        var lower: [OwnedDescriptor] = []
        for (index, layer) in request.mount.layers.enumerated() {
            let device = try request.diskPath(layer.serial)
            let path = "\(request.directory)/layer-\(index)"
            try makeDirectory(path)
            guard cc_mount_readonly(device, path, layer.filesystem) == 0 else {
                throw .system("mount layer \(printable(layer.serial)) (\(device), \(layer.filesystem))")
            }
            mounted(path)
            if let namespace = request.namespace {
                guard cc_map_mount(path, namespace.file.number) == 0 else {
                    throw .system("show layer \(printable(layer.serial)) with the ids of the pod's user namespace")
                }
                mounted(path)
            }
            lower.append(try OwnedDescriptor(result: open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open \(path)"))
        }
        // An overlay without an upper directory needs two lower ones; a single layer has nothing to merge.
        guard lower.count > 1 else { return "\(request.directory)/layer-0" }
        let path = "\(request.directory)/files"
        try makeDirectory(path)
        let stack = lower.reversed().map(\.path).joined(separator: ":")
        guard cc_mount_overlay(path, "lowerdir=\(stack)") == 0 else { throw .system("mount overlay of \(lower.count) layers") }
        mounted(path)
        return path
    }

    /// Nothing of an image outlives its containers' mounts.
    func release() {}
}
