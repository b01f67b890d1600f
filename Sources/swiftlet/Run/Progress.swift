import Glibc

/// Says on standard error what is going on: a line a step, which on a terminal shows the seconds passing.
struct Progress: Sendable {
    let isQuiet: Bool
    var isTerminal = Terminal.errorIsTerminal

    /// Shows `step` ("pulling busybox") while `work` runs.
    func during<Value: Sendable>(
        _ step: String, isolation: isolated (any Actor)? = #isolation, _ work: () async throws -> Value
    ) async throws -> Value {
        guard !isQuiet else { return try await work() }
        let shown = Terminal.printable(step)
        guard isTerminal else {
            Terminal.error("\(shown) …\n")
            return try await work()
        }
        let started = ContinuousClock.now
        let ticker = Task {
            Terminal.error("\(shown) …")
            while true {
                try await Task.sleep(for: .seconds(1))
                Terminal.error("\r\(shown) … \(Int(started.duration(to: .now) / .seconds(1))) s")
            }
        }
        let outcome: Result<Value, any Error>
        do { outcome = .success(try await work()) } catch { outcome = .failure(error) }
        ticker.cancel()
        _ = await ticker.result
        Terminal.error("\r\(shown) … \(Units.seconds(started.duration(to: .now)))\u{1B}[K\n")
        return try outcome.get()
    }

    func note(_ text: String) {
        if !isQuiet { Terminal.error("swiftlet: \(Terminal.oneLine(text))\n") }
    }
}
