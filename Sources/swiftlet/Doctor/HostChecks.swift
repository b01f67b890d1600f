import Linux

/// What pods on the node itself need (docs/host-pods.md), where handlers of `[host]` are to run them: warnings.
enum HostChecks {
    static func runtimes(_ node: some Node) -> Finding {
        guard node.program("conmon") != nil else {
            return .warn("host pods", "missing: conmon; no pod runs on the node itself", "apt-get install conmon runc")
        }
        guard node.program("swiftlet-pause") != nil else {
            return .warn(
                "host pods", "no swiftlet-pause: none with shareProcessNamespace runs on the node itself",
                "install swiftlet-pause beside swiftletd")
        }
        let isHybrid = node.cgroupLayout() == .hybrid
        if let runc = node.program("runc") {
            return .ok("host pods", isHybrid ? "\(runc); crun refuses the node's hybrid control groups" : runc)
        }
        guard let crun = node.program("crun") else {
            return .warn("host pods", "missing: runc and crun; no pod runs on the node itself", "apt-get install runc")
        }
        guard !isHybrid else {
            return .warn(
                "host pods", "\(crun) refuses the node's hybrid control groups", "apt-get install runc, and name it in host.handlers")
        }
        return .ok("host pods", crun)
    }
}
