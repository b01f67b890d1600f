/// A machine's power button (ACPI), which is pressed again and again: a guest in its boot loader, or one on a busy node that has only just
/// begun to listen, misses the first presses.
public struct PowerButton: Sendable {
    /// From the first press to the second, and from each later one to the next.
    public var pauses = (first: Duration.seconds(5), next: Duration.seconds(10))

    /// Presses until the caller is cancelled.
    ///
    /// - Throws: what `press` throws; `CancellationError`.
    func press(_ press: () async throws -> Void) async throws {
        var pause = pauses.first
        while true {
            try await press()
            try await Task.sleep(for: pause)
            pause = pauses.next
        }
    }
}
