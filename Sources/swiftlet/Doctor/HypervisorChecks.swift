import Linux

/// libvirt, QEMU, and what the guests are made of.
enum HypervisorChecks {
    static func libvirt(_ node: some Node) -> Finding {
        let sockets = ["/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"]
        let failures = sockets.map { ($0, node.connectFailure($0)) }
        if let (socket, _) = failures.first(where: { $0.1 == nil }) { return settings(node, "a daemon listens at \(socket)") }
        let driver = "libvirt/connection-driver/libvirt_driver_qemu.so"
        let places = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"]
        if let place = places.first(where: { node.status("\($0)/\(driver)") != nil }) {
            return .ok("libvirt", "no daemon runs; swiftletd uses the driver itself (qemu:///embed, \(place)/\(driver))")
        }
        let reason = failures.first?.1 ?? ""
        return .fail(
            "libvirt", "no daemon at \(sockets[0]) (\(reason)) and no QEMU driver library",
            "apt-get install libvirt-daemon-system libvirt-daemon-driver-qemu, then start libvirtd")
    }

    /// Settings without which the daemon refuses or delays every machine.
    private static func settings(_ node: some Node, _ found: String) -> Finding {
        let handler = setting("stdio_handler", in: node.text("/etc/libvirt/qemu.conf") ?? "")
        if handler != "file", node.connectFailure("/run/libvirt/virtlogd-sock") != nil {
            return .fail(
                "libvirt", "\(found); but its consoles go to virtlogd, which does not run",
                "set stdio_handler = \"file\" in /etc/libvirt/qemu.conf and restart libvirtd, or start virtlogd")
        }
        if let kvm = node.status("/dev/kvm"), kvm.mode & 0o666 != 0o666, kvm.group != "kvm" || kvm.mode & 0o060 != 0o060 {
            return .warn(
                "libvirt", "\(found); QEMU's user may not open /dev/kvm, so libvirt looks at QEMU anew for each machine, for many seconds",
                "chgrp kvm /dev/kvm && chmod 0660 /dev/kvm")
        }
        return .ok("libvirt", found)
    }

    /// The value of `name = "value"` in a configuration, comments apart.
    private static func setting(_ name: String, in text: String) -> String? {
        for line in text.split(whereSeparator: \.isNewline) {
            let parts = line.split(separator: "=", maxSplits: 1)
            guard parts.count == 2, parts[0].split(separator: " ").first.map(String.init) == name else { continue }
            return parts[1].split(separator: "\"").map(String.init).first { $0.contains { $0 != " " } }
        }
        return nil
    }

    /// 7.2, Debian 12's, is the oldest that Swiftlet is tested with.
    static func qemu(_ node: some Node) async -> Finding {
        let name = "qemu-system-\(Platform.current.machine)"
        let install = "apt-get install qemu-system"
        guard let path = node.program(name) else { return .fail("qemu", "no \(name) in $PATH", install) }
        guard let line = await node.output(path, ["--version"])?.split(whereSeparator: \.isNewline).first else {
            return .fail("qemu", "\(path) --version fails", "run it by hand and see what it lacks; \(install)")
        }
        // "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"
        let words = line.split(separator: " ")
        let version = words.firstIndex(of: "version").flatMap { words.dropFirst($0 + 1).first } ?? ""
        let numbers = version.split(separator: ".").prefix(2).compactMap { Int($0) }
        guard numbers.count == 2 else { return .warn("qemu", "\(path): version unknown: \(line)", install) }
        guard (numbers[0], numbers[1]) >= (7, 2) else {
            return .warn("qemu", "\(path), version \(version)", "use 7.2 or later: \(install)")
        }
        return .ok("qemu", "\(path), version \(version)")
    }

    /// - Parameters:
    ///   - kernel: as the daemon says, if it does.
    ///   - directories: where to look otherwise.
    static func guest(_ node: some Node, kernel: String?, initramfs: String?, directories: [String]) -> Finding {
        let advice = "make guest, or set the paths in swiftletd's configuration"
        if let kernel, let initramfs {
            let missing = [kernel, initramfs].filter { node.text($0)?.isEmpty ?? true }
            guard missing.isEmpty else { return .fail("guest", "not readable: \(missing.joined(separator: ", "))", advice) }
            return .ok("guest", "\(kernel), \(initramfs)")
        }
        for directory in directories {
            guard let names = node.entries(directory) else { continue }
            let kernel = names.first { $0.hasPrefix("vmlinu") }
            let initramfs = names.first { $0.hasPrefix("initr") }
            if let kernel, let initramfs { return .ok("guest", "\(directory)/\(kernel), \(initramfs)") }
            guard kernel != nil || initramfs != nil else { continue }
            return .fail("guest", "\(directory) has no \(kernel == nil ? "kernel (vmlinuz)" : "initramfs")", advice)
        }
        return .fail("guest", "no kernel and initramfs in \(directories.joined(separator: ", "))", advice)
    }

    static func tools(_ node: some Node) -> Finding {
        guard let path = node.program("mke2fs") else {
            return .fail("tools", "missing: mke2fs; scratch disks cannot be made", "apt-get install e2fsprogs")
        }
        return .ok("tools", path)
    }
}
