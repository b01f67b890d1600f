import AgentProtocol
import CContainer
import Errors
import Glibc
import Linux

/// The files of an image mounted read-only: its layers stacked, without a writable one.
enum ImageVolume {
    /// Mounts the layers below `directory`, which exists and is empty, and passes each mount point to `mounted` as it is made.
    /// - Returns: where the files are.
    static func mount(
        _ layers: [AgentLayerDisk], below directory: String, environment: SandboxEnvironment, mounted: (String) -> Void
    ) throws(SwiftletError) -> String {
        guard !layers.isEmpty, layers.count <= OverlayRoot.mostLayers else {
            throw SwiftletError(.invalidArgument, "an image has 1 to \(OverlayRoot.mostLayers) layers, this one \(layers.count)")
        }
        var lower: [OwnedDescriptor] = []
        for (index, layer) in layers.enumerated() {
            guard layer.filesystem == "squashfs" || layer.filesystem == "erofs" else {
                throw SwiftletError(.invalidArgument, "layer filesystem \"\(printable(layer.filesystem))\" must be squashfs or erofs")
            }
            let device = try environment.diskPath(layer.serial)
            let path = "\(directory)/layer-\(index)"
            try makeDirectory(path)
            guard cc_mount_readonly(device, path, layer.filesystem) == 0 else {
                throw .system("mount layer \(printable(layer.serial)) (\(device), \(layer.filesystem))")
            }
            mounted(path)
            lower.append(try OwnedDescriptor(result: open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open \(path)"))
        }
        // An overlay without an upper directory needs two lower ones; a single layer has nothing to merge.
        guard lower.count > 1 else { return "\(directory)/layer-0" }
        let path = "\(directory)/files"
        try makeDirectory(path)
        let stack = lower.reversed().map(\.path).joined(separator: ":")
        guard cc_mount_overlay(path, "lowerdir=\(stack)") == 0 else { throw .system("mount overlay of \(layers.count) layers") }
        mounted(path)
        return path
    }
}
