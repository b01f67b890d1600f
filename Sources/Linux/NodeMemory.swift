/// How much memory the node has to give.
public struct NodeMemory: Sendable, Equatable {
    /// Bytes that new work can have without others being swapped out.
    public var available: UInt64
    /// Percent of the last ten seconds in which somebody waited for memory (the kernel's documentation of PSI); nil: the kernel does not
    /// say.
    public var pressure: Double?

    public init(available: UInt64, pressure: Double? = nil) {
        self.available = available
        self.pressure = pressure
    }

    /// At this moment; nil when the kernel does not say.
    public static func now() -> NodeMemory? {
        NodeMemory(meminfo: KernelFile.text("/proc/meminfo") ?? "", pressure: KernelFile.text("/proc/pressure/memory") ?? "")
    }

    /// - Parameters:
    ///   - meminfo: as /proc/meminfo has it (proc(5)).
    ///   - pressure: as /proc/pressure/memory has it; empty without it.
    init?(meminfo: String, pressure: String) {
        let line = meminfo.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
        guard let kib = line?.split(separator: " ").dropFirst().first.flatMap({ UInt64($0) }) else { return nil }
        available = kib << 10
        let some = pressure.split(separator: "\n").first { $0.hasPrefix("some ") }
        self.pressure = some?.split(separator: " ").first { $0.hasPrefix("avg10=") }.flatMap { Double($0.dropFirst("avg10=".count)) }
    }
}
