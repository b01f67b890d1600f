import Foundation
import Linux
import Machines

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
    /// swiftlet-virgl-probe.
    public var virglProbe = "swiftlet-virgl-probe"
    /// The group of a pod's machine: that of /dev/kvm.
    public var group: UInt32

    public init(runDirectory: String, stateDirectory: String, accelerator: Accelerator, group: UInt32) {
        self.runDirectory = runDirectory
        self.stateDirectory = stateDirectory
        self.accelerator = accelerator
        self.group = group
    }
}
