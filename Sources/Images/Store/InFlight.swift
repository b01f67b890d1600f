/// Joins equal work: whoever asks for a key that is being worked on gets that attempt's outcome.
///
/// The work is cancelled when the last one who waits for it is.
actor InFlight<Key: Hashable & Sendable, Value: Sendable> {
    private struct Attempt {
        let number: Int
        let task: Task<Value, any Error>
        var waiting: Int
    }

    private var attempts: [Key: Attempt] = [:]
    private var nextNumber = 0

    func run(_ key: Key, _ work: @escaping @Sendable () async throws -> Value) async throws -> Value {
        let number: Int
        let task: Task<Value, any Error>
        if var attempt = attempts[key], !attempt.task.isCancelled {
            attempt.waiting += 1
            attempts[key] = attempt
            (number, task) = (attempt.number, attempt.task)
        } else {
            number = nextNumber
            nextNumber += 1
            task = Task {
                do {
                    let value = try await work()
                    finish(key, number)
                    return value
                } catch {
                    finish(key, number)
                    throw error
                }
            }
            attempts[key] = Attempt(number: number, task: task, waiting: 1)
        }
        return try await withTaskCancellationHandler {
            try await task.value
        } onCancel: {
            Task { await self.leave(key, number) }
        }
    }

    /// Cancels everything and waits for it to end.
    func cancelAll() async {
        let tasks = attempts.values.map(\.task)
        for task in tasks { task.cancel() }
        for task in tasks { _ = await task.result }
    }

    private func finish(_ key: Key, _ number: Int) {
        if attempts[key]?.number == number { attempts[key] = nil }
    }

    private func leave(_ key: Key, _ number: Int) {
        guard var attempt = attempts[key], attempt.number == number else { return }
        attempt.waiting -= 1
        attempts[key] = attempt
        if attempt.waiting == 0 { attempt.task.cancel() }
    }
}

/// Lets a limited number of tasks through at a time, in the order they came.
actor Gate {
    private var free: Int
    private var waiting: [CheckedContinuation<Void, Never>] = []

    init(width: Int) {
        free = max(1, width)
    }

    func pass<Value: Sendable>(_ body: @Sendable () async throws -> Value) async throws -> Value {
        await enter()
        defer { leave() }
        try Task.checkCancellation()
        return try await body()
    }

    private func enter() async {
        if free > 0 {
            free -= 1
            return
        }
        await withCheckedContinuation { waiting.append($0) }
    }

    private func leave() {
        if waiting.isEmpty { free += 1 } else { waiting.removeFirst().resume() }
    }
}
