import Synchronization

/// Keeps the start of child processes apart from work that needs its descriptors gone once it has closed them.
///
/// Between fork and exec a child holds copies of all descriptors, close-on-exec or not. A tap that was closed here and is
/// still open there is busy for QEMU. posix_spawn returns after the exec, so holding the gate around both is enough.
public enum ForkGate {
    private static let gate = Mutex(())

    /// Runs `work` while nobody else is inside; it must be short.
    public static func hold<Value>(_ work: () throws -> Value) rethrows -> Value {
        try gate.withLock { _ in try work() }
    }
}
