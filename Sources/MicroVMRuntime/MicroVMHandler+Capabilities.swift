import Runtime

extension MicroVMHandler {
    public var capabilities: HandlerCapabilities {
        var capabilities = HandlerCapabilities()
        capabilities.recursiveReadOnlyMounts = true
        capabilities.userNamespaces = true
        capabilities.devices = Set(CommonDevice.numbers.keys)
        return capabilities
    }
}

/// A machine's devices are its own: only those that every node has, and every guest as well, can be given to a container.
enum CommonDevice {
    /// Paths and numbers that node and guest have in common (Documentation/admin-guide/devices.txt).
    static let numbers: [String: (major: UInt32, minor: UInt32)] = [
        "/dev/null": (1, 3), "/dev/zero": (1, 5), "/dev/full": (1, 7), "/dev/random": (1, 8), "/dev/urandom": (1, 9), "/dev/tty": (5, 0),
        "/dev/fuse": (10, 229), "/dev/net/tun": (10, 200),
    ]
}
