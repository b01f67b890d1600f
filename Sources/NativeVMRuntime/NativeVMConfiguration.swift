import Foundation
import Linux
import Machines
import PodMachine
import Runtime

/// How the `vm` handler makes its machines.
public struct NativeVMConfiguration: Sendable {
    /// Sockets of the machines. Short: a socket path must stay under 108 bytes.
    public var runDirectory: String
    /// Overlays, seeds and consoles.
    public var stateDirectory: String
    public var accelerator: Accelerator
    /// Bytes of RAM of a machine whose container names no limit.
    public var defaultMemory: UInt64 = 512 << 20
    public var defaultCPUs = 1
    /// CPUs and bytes of RAM that the node has: no limit gives a machine more. An annotation may ask for more vCPUs.
    public var nodeCPUs = ProcessInfo.processInfo.activeProcessorCount
    public var maximumMemory = ProcessInfo.processInfo.physicalMemory
    /// Patterns (glob(7)) of the node's devices that pods may have, by their own path or by that which they are asked for; empty: all that the
    /// kubelet passes.
    public var rawDevices: [String] = []
    /// swiftlet-virgl-probe.
    public var virglProbe = "swiftlet-virgl-probe"
    public var vsock: VsockDevices
    /// The disk image with Swiftlet's agent, of `make guest`; nil: guests have to bring it themselves.
    public var tools: String?
    public var powerButton = PowerButton()
    /// The group of a pod's machine: that of /dev/kvm.
    public var group: UInt32

    public init(runDirectory: String, stateDirectory: String, accelerator: Accelerator, vsock: VsockDevices, group: UInt32) {
        self.runDirectory = runDirectory
        self.stateDirectory = stateDirectory
        self.accelerator = accelerator
        self.vsock = vsock
        self.group = group
    }
}

extension NativeVMConfiguration {
    /// The size of a machine by its container's limits as they are: the guest's kernel is the tenant's and counts as the container.
    ///
    /// - Parameters:
    ///   - memory: bytes, whatever the limit; nil: by the limit.
    ///   - vcpus: as well.
    func extent(for resources: LinuxResources, memory: UInt64?, vcpus: Int?) -> MachineExtent {
        let memory = min(memory ?? resources.memoryCeiling ?? defaultMemory, maximumMemory)
        let limit = Int(clamping: (min(resources.milliCPUs, 1 << 40) + 999) / 1000)
        let vcpus = vcpus ?? min(max(limit, defaultCPUs), max(nodeCPUs, 1), 255)
        return MachineExtent(memoryBytes: memory / (1 << 20) * (1 << 20), vcpus: vcpus)
    }
}
