import Runtime

/// What may pass of a container's budget, bytes and operations together.
struct BudgetState: Equatable {
    private var bytes: TokenBucket?
    private var operations: TokenBucket?

    init(_ budget: LogBudget, now: Duration) {
        bytes = budget.bytesPerSecond > 0 ? TokenBucket(perSecond: budget.bytesPerSecond, now: now) : nil
        operations = budget.operationsPerSecond > 0 ? TokenBucket(perSecond: budget.operationsPerSecond, now: now) : nil
    }

    mutating func delay(at now: Duration) -> Duration { max(bytes?.delay(at: now) ?? .zero, operations?.delay(at: now) ?? .zero) }

    /// One write of so many bytes.
    mutating func take(_ count: Int, at now: Duration) {
        bytes?.take(UInt64(count), at: now)
        operations?.take(1, at: now)
    }
}

/// The time that budgets are measured by.
protocol BudgetClock: Sendable {
    /// Since some moment; it does not go backwards.
    var now: Duration { get }
    func sleep(_ duration: Duration) async throws
}

struct MonotonicBudgetClock: BudgetClock {
    private let start = ContinuousClock.now

    var now: Duration { start.duration(to: .now) }

    func sleep(_ duration: Duration) async throws { try await Task.sleep(for: duration) }
}

/// A log's sink that keeps to a budget: what is beyond it waits, and is read from the guest later, or is dropped and counted.
actor BudgetedSink: OutputSink {
    private let log: ContainerLog
    private let excess: LogBudget.Excess
    private let clock: any BudgetClock
    private var state: BudgetState
    private var isNaming = false
    /// Bytes that may pass in spite of the budget.
    private var allowance = 0
    /// Those that are under way, of pieces that wait.
    private var sleeps: Set<Task<Void, any Error>> = []

    /// The agent's buffer of 1 MiB and both pipes.
    static let heldByAgent = 1536 << 10

    /// How long dropped bytes wait for the line that names them, where nothing else is written.
    static let namedAfter = Duration.seconds(1)

    init(log: ContainerLog, budget: LogBudget, clock: any BudgetClock = MonotonicBudgetClock()) {
        (self.log, excess, self.clock) = (log, budget.excess, clock)
        state = BudgetState(budget, now: clock.now)
    }

    func received() async -> OutputOffsets { await log.received() }

    func take(_ bytes: [UInt8], from source: StandardStream) async throws -> OutputOffsets {
        var delay = state.delay(at: clock.now)
        if delay > .zero, excess == .drop {
            let safe = try await log.drop(bytes.count, from: source)
            nameSoon()
            return safe
        }
        while delay > .zero {
            if allowance > 0 {
                allowance -= bytes.count
                break
            }
            try await sleep(delay)
            delay = state.delay(at: clock.now)
        }
        state.take(bytes.count, at: clock.now)
        return try await log.take(bytes, from: source)
    }

    /// Pieces that wait.
    var waiting: Int { sleeps.count }

    /// Lets pass what is held for a container that has ended: by a guest's agent, for example. What comes beyond it is no output of such a
    /// container, whatever the guest says, and is under the budget again. What is dropped is dropped still.
    func lift(_ held: Int = heldByAgent) {
        allowance = held
        for sleep in sleeps { sleep.cancel() }
    }

    /// Sleeps for that time, or until the budget is lifted.
    private func sleep(_ duration: Duration) async throws {
        let sleep = Task { [clock] in try await clock.sleep(duration) }
        sleeps.insert(sleep)
        defer { sleeps.remove(sleep) }
        _ = await withTaskCancellationHandler {
            await sleep.result
        } onCancel: {
            sleep.cancel()
        }
        try Task.checkCancellation()
    }

    func flush() async throws -> OutputOffsets { try await log.flush() }

    func writePart(of source: StandardStream) async throws -> OutputOffsets { try await log.writePart(of: source) }

    func lose(_ count: UInt64, of source: StandardStream) async throws -> OutputOffsets { try await log.lose(count, of: source) }

    func finish(_ source: StandardStream) async throws -> OutputOffsets { try await log.finish(source) }

    private func nameSoon() {
        guard !isNaming else { return }
        isNaming = true
        Task {
            try? await clock.sleep(Self.namedAfter)
            isNaming = false
            // A log that is closed meanwhile keeps the count in its position; a full disk's next write names them.
            try? await log.nameDropped()
        }
    }
}
