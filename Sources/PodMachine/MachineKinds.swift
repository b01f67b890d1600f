import Linux
import Runtime
import State
import Volumes

extension ResourceKind {
    /// The process that is a machine's TPM, named by its socket.
    package static let tpm = ResourceKind("tpm")
    /// What serves a machine's vsock device, by the socket at which the host reaches the guest.
    package static let vsockDevice = ResourceKind("vsockDevice")
    package static let tap = ResourceKind("tap")
    /// The control group of the pod's processes on the node.
    package static let cgroup = ResourceKind("cgroup")
    /// The directory that the guest sees, with all that is mounted in it.
    package static let share = ResourceKind("share")
    /// The virtiofsd that serves it.
    package static let shareDaemon = ResourceKind("shareDaemon")
    /// One container's mounts in it.
    package static let shareMounts = ResourceKind("shareMounts")
    /// A file of a volume that a machine's user was given, at the path where it was bound.
    package static let volumeFile = ResourceKind("volumeFile")
}

/// What the release of a tap needs.
package struct TapDocument: StoredDocument {
    package static let what = "ledger document of a tap"

    /// The network namespace that it is moved into.
    package var namespace: String

    package init(namespace: String) { self.namespace = namespace }
}

extension ProcessCgroup: StoredDocument {
    public static var what: String { "ledger document of a control group" }
}

/// What the ledger keeps of a machine, beside its id, which is the entry's name. Readable as a `ProcessDocument`.
package struct MachineDocument: StoredDocument {
    package static let what = "ledger document of a machine"

    /// QEMU.
    package var process: ProcessIdentity?
    /// Nil in what earlier releases wrote: derived from the machine's id.
    package var contextID: UInt32?
    /// The domain's name, by which libvirt names its log of the machine; nil in what earlier releases wrote.
    package var domain: String?
    /// Whether all that it writes to its disks goes with it, so that QEMU may be killed; nil in what earlier releases wrote.
    package var keepsNothing: Bool?
    /// What the names of all that the machine has on the node are derived from; nil: from its pod's id.
    package var origin: String?
    /// What the machine was made from and as. Nil for one that does not wait for a pod.
    package var blueprint: String?

    package init(
        process: ProcessIdentity?, contextID: UInt32?, domain: String? = nil, keepsNothing: Bool? = nil, origin: String? = nil
    ) {
        self.process = process
        self.contextID = contextID
        self.domain = domain
        self.keepsNothing = keepsNothing
        self.origin = origin
    }
}

/// Whom a volume's file was lent to, and whose it is.
package struct LentFileDocument: StoredDocument {
    package static let what = "ledger document of a volume's file"

    /// Nil where it is not known: the file's owner stays as it is.
    package var user: UInt32?
    package var owner: VolumeFile.Ownership?
    /// Which file of which volume it is when it is nobody's before it is whole; nil for all others.
    package var partial: Partial?

    package struct Partial: Codable, Sendable {
        package var volume: String
        package var name: String

        package init(_ file: VolumeFile) {
            volume = file.volumePath
            name = file.name
        }
    }

    package init(user: UInt32?, owner: VolumeFile.Ownership?, partial: Partial? = nil) {
        self.user = user
        self.owner = owner
        self.partial = partial
    }

    /// Removes what a copy that did not end has left, while it is this user's: another pod may be making one of its own there by now. Blocks.
    package func removePartial() throws {
        // A volume that is not there any more holds nothing of this node's.
        guard let partial, let user, let file = try? VolumeFile(partial.name, in: HostPath(partial.volume)) else { return }
        if let owner = try? file.ownership(), owner.uid == user { try file.remove() }
    }
}

/// What the release of a container's mounts needs.
package struct ShareMountsDocument: StoredDocument {
    package static let what = "ledger document of a container's mounts"

    package var share: String
    package var container: String

    package init(share: String, container: String) {
        self.share = share
        self.container = container
    }
}
