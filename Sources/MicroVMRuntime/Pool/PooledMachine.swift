import Linux
import Machines
import Runtime

/// A booted, paused machine that waits for a pod.
struct PooledMachine: Sendable {
    /// Of the machine; its id stands for a pod's.
    var names: MachineNames
    var extent: MachineExtent
    /// QEMU; nil under a hypervisor that has no process per machine.
    var process: ProcessIdentity?
    /// Lists all that the machine has on the node.
    var ledger: Ledger
    /// What it was made from and as: with another one it is of no use any more.
    var blueprint: String
    /// Its end, also one from before the pool had it.
    var end: AsyncStream<MachineEnd>
}
