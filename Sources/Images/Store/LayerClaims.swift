import Synchronization

/// Who needs a layer's file now: an image being put together holds its layers, the collector claims what nobody holds.
///
/// A layer is never held and claimed by the same moment's callers: whoever comes second sees the first.
final class LayerClaims: Sendable {
    private struct State {
        var holds: [String: Int] = [:]
        /// Layers being deleted, with those who wait for the end of it.
        var deletions: [String: [CheckedContinuation<Void, Never>]] = [:]
    }

    private let state = Mutex(State())

    /// Keeps the layers from being claimed for deletion. A deletion under way goes on: see `settled`.
    func hold(_ diffIDs: [String]) {
        state.withLock { state in for id in diffIDs { state.holds[id, default: 0] += 1 } }
    }

    func release(_ diffIDs: [String]) {
        state.withLock { state in
            for id in diffIDs {
                let left = (state.holds[id] ?? 1) - 1
                state.holds[id] = left > 0 ? left : nil
            }
        }
    }

    func isHeld(_ diffID: String) -> Bool {
        state.withLock { $0.holds[diffID] != nil }
    }

    /// Claims for deletion those of the layers that nobody holds and nobody else deletes, and returns them.
    func claimForDeletion(_ diffIDs: [String]) -> [String] {
        state.withLock { state in
            let claimed = diffIDs.filter { state.holds[$0] == nil && state.deletions[$0] == nil }
            for id in claimed { state.deletions[id] = [] }
            return claimed
        }
    }

    func endDeletion(_ diffIDs: [String]) {
        let waiting = state.withLock { state in diffIDs.flatMap { state.deletions.removeValue(forKey: $0) ?? [] } }
        for continuation in waiting { continuation.resume() }
    }

    /// Returns when the layer is not being deleted. The caller holds it, so that no deletion begins afterwards.
    func settled(_ diffID: String) async {
        await withCheckedContinuation { continuation in
            let isSettled = state.withLock { state in
                guard state.deletions[diffID] != nil else { return true }
                state.deletions[diffID]?.append(continuation)
                return false
            }
            if isSettled { continuation.resume() }
        }
    }
}
