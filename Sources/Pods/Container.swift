import Concurrency
import Runtime
import State

/// A container as its pod's actor holds it. Only that actor touches it.
final class Container {
    let id: String
    let sandboxID: String
    var spec: ContainerSpec
    let imageID: String
    let logPath: String
    let stopSignal: Int32
    let createdAt: Int64
    let ledger: Ledger
    var lifecycle: ContainerStateMachine
    /// Nil until the guest has made the container.
    var user: ContainerUser?
    /// Waits for the exit and records it.
    var exitWatch: Task<Void, Never>?
    var startAttempt: Task<Void, any Error>?
    var removeAttempt: Task<Void, any Error>?
    /// The latest work that acquires something for it. It ends at its own pace, also after the creation was given up.
    var acquisition: Task<Void, any Error>?
    /// Writes of its record: an older state never follows a newer one, and none follows its deletion.
    let saves = SerialQueue()
    /// Changes of its limits.
    let updates = SerialQueue()
    /// The exit as it arrived; it is recorded when the log is complete.
    var arrivedExit: ContainerExit?
    var exitWaiters: [CheckedContinuation<Void, Never>] = []

    init(_ snapshot: ContainerSnapshot, ledger: Ledger) {
        id = snapshot.id
        sandboxID = snapshot.sandboxID
        spec = snapshot.spec
        imageID = snapshot.imageID
        logPath = snapshot.logPath
        stopSignal = snapshot.stopSignal
        createdAt = snapshot.createdAt
        lifecycle = ContainerStateMachine(state: snapshot.state)
        user = snapshot.user
        self.ledger = ledger
    }

    var state: ContainerState { lifecycle.state }

    var isRunning: Bool {
        if case .running = state { true } else { false }
    }

    /// Whether the first process has ended, its log perhaps not written yet.
    var hasEnded: Bool { !isRunning || arrivedExit != nil }

    var snapshot: ContainerSnapshot {
        ContainerSnapshot(
            id: id, sandboxID: sandboxID, spec: spec, imageID: imageID, state: state,
            createdAt: createdAt, logPath: logPath, stopSignal: stopSignal, user: user)
    }
}
