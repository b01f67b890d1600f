import Errors
import Foundation
import Linux
import Machines
import PodMachine
import Runtime

/// How the `microvm` handler makes its machines.
public struct MicroVMConfiguration: Sendable {
    /// Guest kernel and initramfs, as `make guest` leaves them.
    public var kernel: String
    public var initramfs: String
    /// The disk image that the initramfs makes the guest's root, with the agent, of `make guest` as well; nil for an initramfs that
    /// brings a root of its own.
    public var agent: String?
    /// The disk image of the kernel's modules on demand, of `make guest` as well; nil for a kernel that needs none.
    public var modules: String?
    /// Added to the default kernel command line.
    public var extraKernelArguments: [String] = []
    /// Sockets and console logs of the machines. Short: a socket path must stay under 108 bytes.
    public var runDirectory: String
    /// Scratch disks.
    public var stateDirectory: String
    /// swiftlet-vsockd, for nodes without /dev/vhost-vsock.
    public var vsockBackend: String
    public var accelerator: Accelerator
    public var vsock: VsockSupport
    /// Of the node, where machines are emulated; nil: a guest measures it itself, or KVM tells it.
    public var timeStampCounterKHz: UInt32?
    /// Bytes of RAM of a machine whose pod names no limit.
    public var defaultMemory: UInt64 = 512 << 20
    /// Bytes that the guest's kernel and agent need beside the containers.
    public var guestOverhead: UInt64 = 64 << 20
    public var defaultCPUs = 1
    public var maximumCPUs = 16
    /// CPUs and bytes of RAM that the node has: no machine is given more.
    public var nodeCPUs = ProcessInfo.processInfo.activeProcessorCount
    public var maximumMemory = ProcessInfo.processInfo.physicalMemory
    /// Bytes that a pod's containers can write in all; the file is sparse.
    public var scratchSize: UInt64 = 10 << 30
    /// The most that a pod can ask for by `swiftlet/scratch-size`; never less than `scratchSize`.
    public var mostScratchSize: UInt64 = 0
    /// From the start of QEMU to the agent's first answer.
    public var bootTimeout: Duration = .seconds(60)
    /// Machines that wait for pods, booted and paused.
    public var pool = PoolConfiguration()
    /// The size of a machine whose pod says nothing.
    public var defaultExtent: MachineExtent { extent(for: PodDemand(pod: nil, overhead: nil)) }
    /// All machines that should wait, by their sizes; those of the default size first.
    public var poolShapes: [PoolShape] {
        (pool.size > 0 ? [PoolShape(extent: defaultExtent, size: pool.size)] : []) + pool.shapes
    }
    /// Machines that boot at the same time. An emulated one keeps a CPU of the node busy all the while.
    var bootsAtOnce: Int { accelerator == .tcg ? max(nodeCPUs, 2) : max(nodeCPUs, 2) * 4 }
    /// But for what is measured of the node.
    var kernelArguments: [String] {
        GuestKernelArguments.standard + GuestKernelArguments.growing + (accelerator == .tcg ? GuestKernelArguments.emulated : [])
            + extraKernelArguments
    }
    /// Whom the pods' machines run as: an id each. The group is that of `sharedUser`, which /dev/kvm belongs to.
    public var users: UserRange
    /// Whom the machines run as that earlier releases started (Debian: libvirt-qemu and kvm).
    public var sharedUser: MachineUser

    public var vsockDevices: VsockDevices { VsockDevices(vsock, backend: vsockBackend, users: users) }

    public init(
        kernel: String, initramfs: String, runDirectory: String, stateDirectory: String, vsockBackend: String, accelerator: Accelerator,
        vsock: VsockSupport, users: UserRange, sharedUser: MachineUser
    ) {
        self.kernel = kernel
        self.initramfs = initramfs
        self.runDirectory = runDirectory
        self.stateDirectory = stateDirectory
        self.vsockBackend = vsockBackend
        self.accelerator = accelerator
        self.vsock = vsock
        self.users = users
        self.sharedUser = sharedUser
    }
}

/// Machines of one size that wait for pods.
public struct PoolShape: Sendable, Equatable {
    public var extent: MachineExtent
    /// How many.
    public var size: Int

    public init(extent: MachineExtent, size: Int) {
        self.extent = extent
        self.size = size
    }

    /// Bytes that they take in time, with what serves them.
    public var memory: UInt64 { UInt64(size) * memoryOfOne }
    /// Bytes that one takes in time, with what serves it.
    public var memoryOfOne: UInt64 { extent.memoryBytes + MicroVMConfiguration.emulatorMemory }
}

/// The machines that wait for pods.
public struct PoolConfiguration: Sendable, Equatable {
    /// How many of the size of a machine whose pod says nothing.
    public var size = 0
    /// Machines of other sizes; no two are alike.
    public var shapes: [PoolShape] = []
    /// Whether they are ended with the daemon; else they wait for the next one.
    public var drains = false
    /// From the end of the last start of a pod to the next boot for the pool: what follows a start has the node's CPUs first.
    var rest = Duration.seconds(2)
    /// How long a pod that has started may take to start its first container before machines are made for the pool beside it.
    var containerPatience = Duration.seconds(5)
    /// From a boot that failed to the next; twice as long after each, up to ``longestPause``.
    var firstPause = Duration.seconds(1)
    var longestPause = Duration.seconds(300)
    /// From one attempt to release what a machine held to the next.
    var releasePause = Duration.seconds(10)

    public init(size: Int = 0, shapes: [PoolShape] = [], drains: Bool = false) {
        self.size = size
        self.shapes = shapes
        self.drains = drains
    }
}
