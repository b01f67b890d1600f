import Glibc

/// What pods that are virtual machines need beside what all pods do. Without it some of them, or what they ask for, are refused: warnings.
enum VMChecks {
    static func all(_ node: some Node, directory: String, virtiofsd: String = "/usr/lib/qemu/virtiofsd") async -> [Finding] {
        [
            images(node), disks(node), storage(node, directory: directory), uefi(node), tpm(node), files(node, virtiofsd),
            await virgl(node),
        ]
    }

    static func images(_ node: some Node) -> Finding {
        guard let path = node.program("swiftlet-diskinfo") else {
            return .warn(
                "vm images", "missing: swiftlet-diskinfo; no disk image is taken in, so that no pod is a virtual machine",
                "install swiftlet-diskinfo beside swiftletd")
        }
        return .ok("vm images", path)
    }

    static func disks(_ node: some Node) -> Finding {
        let needed = [("qemu-img", "qemu-utils"), ("setpriv", "util-linux"), ("prlimit", "util-linux")]
        let missing = needed.filter { node.program($0.0) == nil }
        guard missing.isEmpty else {
            return .warn(
                "vm disks", "missing: \(missing.map(\.0).joined(separator: ", ")); virtual machines get no disks",
                "apt-get install \(Set(missing.map(\.1)).sorted().joined(separator: " "))")
        }
        return .ok("vm disks", needed.compactMap { node.program($0.0) }.joined(separator: ", "))
    }

    /// Machines' disks are sparse qcow2 files on top of their images: no file system has to clone files.
    static func storage(_ node: some Node, directory: String) -> Finding {
        guard let type = node.fileSystem(directory) else {
            return .warn("vm storage", "\(directory): its file system cannot be told", "look at it with stat -f")
        }
        let advice = "put swiftletd's root on ext4, xfs or btrfs"
        switch type {
        case "tmpfs", "ramfs":
            return .warn("vm storage", "\(directory) is on \(type): what virtual machines write takes the node's memory", advice)
        case "vfat", "exfat":
            return .warn("vm storage", "\(directory) is on \(type), which has no sparse files: disks take all of their size", advice)
        case "nfs", "cifs", "fuse", "9p":
            return .warn(
                "vm storage", "\(directory) is on \(type): a full disk may be told too late to stop machines that write to it", advice)
        default: return .ok("vm storage", "\(directory) is on \(type): disks are sparse, and lie on their images without copies")
        }
    }

    static func uefi(_ node: some Node) -> Finding {
        let files = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"]
        let missing = files.filter { node.status($0) == nil }
        guard missing.isEmpty else {
            return .warn(
                "vm uefi", "missing: \(missing.joined(separator: ", ")); swiftlet/firmware: uefi is refused", "apt-get install ovmf")
        }
        return .ok("vm uefi", files[0])
    }

    static func tpm(_ node: some Node) -> Finding {
        // Where swiftletd starts it.
        let path = "/usr/bin/swtpm"
        guard node.status(path) != nil else {
            return .warn("vm tpm", "missing: \(path); swiftlet/tpm: true is refused", "apt-get install swtpm")
        }
        return .ok("vm tpm", path)
    }

    static func files(_ node: some Node, _ virtiofsd: String) -> Finding {
        guard node.status(virtiofsd) != nil else {
            return .warn(
                "vm files", "missing: \(virtiofsd); pods with ConfigMaps, Secrets or other mounts are refused",
                "apt-get install qemu-system-common")
        }
        return .ok("vm files", virtiofsd)
    }

    /// Of what the daemon's own probe needs; it brings the renderer up as a machine's user.
    static func virgl(_ node: some Node, renderNode: String = "/dev/dri/renderD128") async -> Finding {
        let refused = "swiftlet/graphics: virgl is refused"
        guard let probe = node.program("swiftlet-virgl-probe") else {
            return .warn("vm virgl", "missing: swiftlet-virgl-probe; \(refused)", "install swiftlet-virgl-probe beside swiftletd")
        }
        guard node.status(renderNode) != nil else {
            return .warn("vm virgl", "missing: \(renderNode); \(refused)", "load the driver of a GPU, where the node has one")
        }
        guard let end = await node.run(probe, [renderNode]), end.succeeded else {
            return .warn(
                "vm virgl", "\(probe) \(renderNode) fails; \(refused)",
                "run it by hand; apt-get install libvirglrenderer1 qemu-system-gui")
        }
        return .ok("vm virgl", "\(renderNode): \(end.output.split(whereSeparator: \.isNewline).first ?? "it draws")")
    }
}
