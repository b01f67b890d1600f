import Machines
import Runtime
import Synchronization

/// Tells that somebody has stopped a machine's vCPUs or let them go on; whether they run is libvirt's word.
package final class MachinePauses: Sendable {
    private let listeners = Mutex<[MachineID: AsyncStream<Void>.Continuation]>([:])

    package init() {}

    /// A value after changes that nobody has looked at, of several one; ends when the machine is forgotten, or listened to anew.
    package func changes(of id: MachineID) -> AsyncStream<Void> {
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        listeners.withLock { $0.updateValue(continuation, forKey: id) }?.finish()
        return stream
    }

    package func changed(_ id: MachineID) { _ = listeners.withLock { $0[id] }?.yield() }

    /// Any may have changed unseen.
    package func changed() {
        for listener in listeners.withLock({ Array($0.values) }) { listener.yield() }
    }

    package func forget(_ id: MachineID) { listeners.withLock { $0.removeValue(forKey: id) }?.finish() }
}
