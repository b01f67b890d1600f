/// Memory of the process that carries sessions, in bytes.
struct SessionMemory {
    /// Sessions that were open.
    var sessions: Int
    var residentBefore: UInt64
    var resident: UInt64
    var proportional: UInt64
}

/// Connections of port-forward that were opened at once, several times.
struct Connections {
    let wanted: Int
    /// Those whose bytes came back, at the worst of the times.
    private(set) var served: Int
    /// From the first one's beginning until the last one was served.
    private(set) var times = Samples()

    init(wanted: Int) { (self.wanted, served) = (wanted, wanted) }

    mutating func add(served: Int, _ time: Duration) {
        self.served = min(self.served, served)
        times.add(time)
    }
}
