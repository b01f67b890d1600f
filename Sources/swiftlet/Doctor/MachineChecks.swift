import Glibc

/// The machine's devices, control groups and disk.
enum MachineChecks {
    static func kvm(_ node: some Node) -> Finding {
        let emulated = "guests are emulated, many times slower"
        switch node.openFailure("/dev/kvm") {
        case nil:
            return .ok("kvm", "/dev/kvm opens; swiftletd finds out with a guest of its own whether it works, and emulates if not")
        case ENOENT:
            return .warn(
                "kvm", "no /dev/kvm: \(emulated)",
                "turn on virtualization in the machine's firmware and load kvm_intel or kvm_amd; in a VM, allow it nested virtualization")
        case let number?:
            return .warn(
                "kvm", "/dev/kvm: \(String(cString: strerror(number))); \(emulated) if swiftletd cannot open it either",
                "run doctor as root; as root, look at the modules kvm_intel or kvm_amd and at the container's device rules")
        }
    }

    static func tun(_ node: some Node) -> Finding {
        guard let number = node.openFailure("/dev/net/tun") else { return .ok("tun", "/dev/net/tun opens") }
        return .fail(
            "tun", "/dev/net/tun: \(String(cString: strerror(number))); pods get no network",
            number == EACCES ? "run doctor as root" : "modprobe tun; if the node is missing: mknod /dev/net/tun c 10 200")
    }

    static func vsock(_ node: some Node) -> Finding {
        if let backend = node.program("swiftlet-vsockd") { return .ok("vsock", backend) }
        if node.status("/dev/vhost-vsock") != nil {
            return .warn(
                "vsock", "no swiftlet-vsockd; /dev/vhost-vsock serves only where machine.vsock is \"kernel\"",
                "install swiftlet-vsockd beside swiftletd")
        }
        return .fail(
            "vsock", "neither swiftlet-vsockd nor /dev/vhost-vsock: guests cannot be reached",
            "install swiftlet-vsockd beside swiftletd")
    }

    static func streams(_ node: some Node) -> Finding {
        if let daemon = node.program("swiftlet-streamd") { return .ok("streams", daemon) }
        return .fail(
            "streams", "no swiftlet-streamd: containers have no logs, so that none starts", "install swiftlet-streamd beside swiftletd")
    }

    static func cgroups(_ node: some Node) -> Finding {
        switch node.cgroupLayout() {
        case .v2:
            let controllers = (node.text("/sys/fs/cgroup/cgroup.controllers") ?? "").split { $0 == " " || $0.isNewline }
            let missing = ["cpu", "memory"].filter { name in !controllers.contains { $0 == name } }
            guard missing.isEmpty else {
                return .warn(
                    "cgroups", "v2 without \(missing.joined(separator: " and ")): pods are not limited on the node",
                    "turn the controllers on: cgroup_enable=memory on the kernel's command line, cgroup.subtree_control of the parent")
            }
            return .ok("cgroups", "v2")
        case .v1: return .ok("cgroups", "v1")
        case .hybrid: return .ok("cgroups", "v1 with v2 beside it (hybrid)")
        case nil:
            return .fail("cgroups", "none mounted at /sys/fs/cgroup", "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
        }
    }

    /// A small image and its pods take a few hundred MB.
    static func disk(_ node: some Node, directory: String) -> Finding {
        guard let (free, total) = node.space(directory), total > 0 else {
            return .fail("disk", "\(directory): its file system cannot be looked at", "make the directory, or name another with --data-dir")
        }
        let found = "\(directory): \(Units.size(free)) free of \(Units.size(total))"
        let advice = "swiftlet image rm what is not needed, or move the directory to a larger disk"
        if free < 1_000_000_000 { return .fail("disk", found, advice) }
        if free < 5_000_000_000 || free < total / 20 { return .warn("disk", found, advice) }
        return .ok("disk", found)
    }
}
