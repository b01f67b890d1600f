/// Memory of the process that carries sessions, in bytes.
struct SessionMemory {
    /// Sessions that were open.
    var sessions: Int
    var residentBefore: UInt64
    var resident: UInt64
    var proportional: UInt64
}

/// Connections of port-forward that were opened at once.
struct Connections {
    var wanted: Int
    /// Those whose bytes came back.
    var served: Int
    /// From the first one's beginning until the last one was served.
    var time: Duration
}
