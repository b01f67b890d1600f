/// A way that bytes take out of a container, or out of a bare guest.
enum Transfer: String, CaseIterable {
    /// From a process of a guest without containers and agent: what virtio, QEMU and swiftlet-vsockd carry.
    case vsock = "raw vsock of a bare guest"
    /// From a TCP server on the loopback of that guest, by a program in C that reads and writes: what a port of an emulated guest carries
    /// whatever its agent is.
    case forwarded = "TCP and raw vsock of a bare guest"
    /// From a process of a container by the guest's agent, without swiftlet-streamd.
    case agent = "the agent's stream of a process"
    case execSPDY = "exec, stdout by SPDY"
    case execWebSocket = "exec, stdout by WebSocket"
    case attach = "attach by WebSocket"
    case portForward = "port-forward by SPDY"
}

/// Some bytes, and how long they took from the first to the last.
struct Throughput: Sendable {
    var bytes: Int
    var time: Duration

    /// 10^6 bytes a second.
    var rate: Double { Double(bytes) / 1e6 / (time.milliseconds / 1000) }
}

/// Repeated transfers of one kind.
struct Throughputs {
    private(set) var all: [Throughput] = []

    mutating func add(_ one: Throughput) { all.append(one) }

    /// The middle one's rate, the lower of two; nil without any.
    var median: Double? { all.isEmpty ? nil : all.map(\.rate).sorted()[(all.count - 1) / 2] }
}

/// Counts a transfer as its bytes come.
struct TransferCount {
    private(set) var bytes = 0
    private(set) var first: ContinuousClock.Instant?
    private var last: ContinuousClock.Instant?

    mutating func add(_ count: Int, at now: ContinuousClock.Instant = .now) {
        if first == nil { first = now }
        last = now
        bytes += count
    }

    /// Nil before a second piece has come.
    var throughput: Throughput? {
        guard let first, let last, last > first else { return nil }
        return Throughput(bytes: bytes, time: last - first)
    }
}
