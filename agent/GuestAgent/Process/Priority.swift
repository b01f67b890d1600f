import Glibc

/// The priority of a thread of the agent, and of the threads it starts. A container's processes begin at 0.
enum Priority: Int32 {
    /// The host is answered also while containers take all the CPU they can get.
    case beforeContainers = -15
    /// Work that nobody waits for.
    case behindContainers = 10

    func apply() { Self.set(rawValue) }

    /// Does `body` at this priority.
    func during<Value>(_ body: () -> Value) -> Value {
        let before = getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0)
        apply()
        defer { Self.set(before) }
        return body()
    }

    private static func set(_ nice: Int32) { setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, nice) }
}
