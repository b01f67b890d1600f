import Runtime

/// What a pod used at one moment, as its guest reported it. The guest may lie, about its own containers only.
public struct PodUsage: Sendable {
    /// When the answer came: Unix time in nanoseconds by the node's clock.
    public var time: Int64
    /// All containers together.
    public var cgroup: CgroupUsage
    /// Billionths of a CPU over the last interval.
    public var nanoCores: UInt64?
    /// By container id.
    public var containers: [String: ContainerUsage]
    /// The guest's interfaces but loopback.
    public var interfaces: [InterfaceUsage]
    /// The disk of the writable layers.
    public var scratch: DiskUsage
    /// RAM of the guest's kernel, and what of it is free for use.
    public var guestMemory: (total: UInt64, available: UInt64)
}

/// What a container used at one moment.
public struct ContainerUsage: Sendable {
    public var time: Int64
    public var cgroup: CgroupUsage
    public var nanoCores: UInt64?
    /// Nil until it has been counted for the first time.
    public var writableLayer: LayerUsage?
    public var processes: ProcessUsage
}

/// What a guest reported, brought within bounds.
enum GuestAccount {
    private static let mostInterfaces = 64
    private static let mostDevices = 64

    static func bounded(_ interfaces: [InterfaceUsage]) -> [InterfaceUsage] {
        // IFNAMSIZ leaves 15 bytes.
        interfaces.prefix(mostInterfaces).filter { isWord($0.name, longest: 15) }
    }

    static func bounded(_ stats: CgroupUsage) -> CgroupUsage {
        var stats = stats
        stats.io = stats.io.prefix(mostDevices).map { device in
            var device = device
            if !isWord(device.name, longest: 32) { device.name = "" }
            return device
        }
        stats.hugepages = stats.hugepages.prefix(8).filter { isWord($0.size, longest: 8) }
        stats.cpuPressure = bounded(stats.cpuPressure)
        stats.memoryPressure = bounded(stats.memoryPressure)
        stats.ioPressure = bounded(stats.ioPressure)
        return stats
    }

    private static func bounded(_ stats: PressureUsage) -> PressureUsage {
        .with {
            $0.some = bounded(stats.some)
            $0.full = bounded(stats.full)
        }
    }

    private static func bounded(_ pressure: Pressure) -> Pressure {
        .with {
            $0.totalUs = pressure.totalUs
            $0.avg10 = percent(pressure.avg10)
            $0.avg60 = percent(pressure.avg60)
            $0.avg300 = percent(pressure.avg300)
        }
    }

    private static func percent(_ value: Double) -> Double { value.isFinite ? min(max(value, 0), 100) : 0 }

    private static func isWord(_ text: String, longest: Int) -> Bool {
        (1...longest).contains(text.utf8.count) && text.utf8.allSatisfy { (0x21...0x7e).contains($0) }
    }
}
