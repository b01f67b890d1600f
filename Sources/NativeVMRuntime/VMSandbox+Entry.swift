import DHCP
import Linux
import PodMachine
import QemuGuestAgent
import Runtime

extension VMSandbox {
    /// What is known of one container's machine.
    struct Entry {
        var record: VMRecord
        /// No other of the pod may start, though the record does not say yet that this one has.
        var isStarting = false
        /// QEMU, once it runs.
        var process: ProcessIdentity?
        /// Answers with the machine's end; from its start on.
        var watch: Task<VMEnd?, Never>?
        var agent: QemuAgent?
        /// Swiftlet's, while the machine runs; nil for a machine without a vsock device.
        var ownAgent: VMAgent?
        /// Answer the guest's DHCP clients while it runs.
        var responders: [AddressResponder] = []
        /// Of its control group.
        var limiter: CgroupLimiter?
        /// Bytes of its block volumes that the guest was told of, by serial.
        var sizes: [String: UInt64] = [:]
        /// Looks at them.
        var volumeWatch: Task<Void, Never>?
        /// Presses the power button until the guest heeds it.
        var shutdown: Task<Void, Never>?
        /// Wait for the ends of the processes that serve its devices.
        var devices: [Task<Void, Never>] = []
        /// What it cannot go on without has ended.
        var loss: String?
        /// Why the machine stands still, for want of room on its disk.
        var fullDisk: SandboxHalt?

        /// Ends what is done for the machine while it runs.
        func stopServing() {
            for responder in responders { responder.stop() }
            for device in devices { device.cancel() }
            shutdown?.cancel()
            volumeWatch?.cancel()
            limiter?.close()
            ownAgent?.close()
        }

        /// Ends all that is done for the machine.
        func cancel() {
            stopServing()
            watch?.cancel()
        }
    }
}
