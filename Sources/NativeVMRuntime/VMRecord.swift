import CLinux
import Errors
import Foundation
import Glibc
import Linux
import Machines
import PodMachine
import Runtime
import State
import Volumes

/// What a daemon that has restarted must know of a container's machine, in a file beside its disk.
struct VMRecord: StoredDocument {
    static let what = "record of a VM"

    struct Mount: Codable, Sendable {
        /// In the container's mounts.
        var index: Int
        var mount: ContainerMount
    }

    /// A file of a volume that is the machine's while it runs.
    struct LentFile: Codable, Sendable {
        /// The volume's directory on the node.
        var volume: String
        var name: String
        var place: String
        /// What the file has at least.
        var bytes: UInt64?
        /// Whose it is when the machine has ended; nil until it is lent.
        var owner: VolumeFile.Ownership?
    }

    /// Whether the container's limits are the machine's size.
    struct Sizing: Codable, Sendable {
        var memory: Bool
        var vcpus: Bool
    }

    var pod: String
    var container: String
    var machine: MachineSpec
    /// The interfaces of the pod's network that the machine's are joined with, in the machine's order.
    var interfaces: [AttachedInterface]
    /// What the machine gets of the node's files.
    var mounts: [Mount]
    /// That holds QEMU; nil without a cgroup parent.
    var cgroup: ProcessCgroup?
    /// The disk that outlives the machine; nil: its own overlay.
    var root: RootDiskKey?
    /// The volume that keeps what the machine has beside its root disk; nil: the root disk's own, or none.
    var state: RootDiskKey?
    /// Nil in what earlier releases wrote.
    var sizing: Sizing?
    /// What the machine was made since its start; nil: as it was started.
    var resized: MachineExtent?
    /// Nil in what earlier releases wrote.
    var lentFiles: [LentFile]?
    /// Its start was asked for.
    var isStarted = false
    /// Its start has come through: it is joined with the pod's network and has its files. Nil in what earlier releases wrote.
    var isUp: Bool? = false
    /// When an operator paused it, in nanoseconds of Unix time; nil: nobody did.
    var pausedAt: Int64?
    var end: VMEnd?

    var extent: MachineExtent {
        resized ?? MachineExtent(memoryBytes: machine.shape.memoryBytes, vcpus: machine.shape.vcpus)
    }

    /// What goes with the container although its root disk does not: what the guest has sealed with it, it does not open again.
    var unkept: [String] {
        guard root != nil else { return [] }
        var unkept: [String] = []
        if machine.tpm != nil, !lends(PersistentRoot.tpmName) { unkept.append("the TPM's state") }
        if case .firmware = machine.boot, !lends(PersistentRoot.variablesName) { unkept.append("UEFI's variables") }
        return unkept
    }

    /// Whether a volume lends the machine a file of this name.
    func lends(_ name: String) -> Bool { lentFiles?.contains { $0.name == name } == true }

    /// Replaces the file in one step.
    func write(_ path: String) throws {
        let (partial, bytes) = (path + ".partial", [UInt8](try stored()))
        guard unlink(partial) == 0 || errno == ENOENT else { throw SwiftletError.system("remove \(partial)") }
        let file = open(partial, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard file >= 0 else { throw SwiftletError.system("create \(partial)") }
        let written = Glibc.write(file, bytes, bytes.count)
        close(file)
        guard written == bytes.count, rename(partial, path) == 0 else {
            let error = SwiftletError.system("write \(path)")
            unlink(partial)
            throw error
        }
    }
}
