import Foundation
import Machines
import PodMachine
import Runtime

/// Names of everything that a container's machine owns, derived from the ids of container and pod before any of it exists.
struct VMNames: Sendable {
    /// Identifies the names of native VMs (RFC 9562, section 5.5).
    private static let namespace = UUID(
        uuid: (0x1B, 0x0C, 0x70, 0x4E, 0x5D, 0x21, 0x4E, 0x8B, 0x8F, 0x36, 0x53, 0x77, 0x69, 0x66, 0x74, 0x56))

    /// No machine's id.
    static let nobody = namespace
    /// Interfaces beside the first one: a machine has a port for each.
    static let mostFurtherInterfaces = 4

    let pod: String
    let container: String
    let configuration: NativeVMConfiguration

    /// As much of an id as is unique on a node and short enough for socket paths and device names.
    private static func short(_ id: String) -> String { String(id.prefix(Leftover.prefixLength)) }

    /// Where the pod's machines keep what outlives them.
    static func podDirectory(_ pod: String, _ configuration: NativeVMConfiguration) -> String {
        "\(configuration.stateDirectory)/\(short(pod))"
    }

    /// Of the pod's, for what an image is written to its root disk by.
    var rootDirectory: String { "\(Self.podDirectory(pod, configuration))/\(Self.rootFolder)" }
    static let rootFolder = "root"
    static let copyPrefix = "disk-"
    /// Where a root disk is written to. A pod may have more than one, of one container after the other.
    func copyTarget(_ disk: RootDiskKey) -> String { "\(rootDirectory)/\(Self.copyPrefix)\(Self.tag(disk))" }
    /// The first MiB of the image meanwhile.
    func copyHead(_ disk: RootDiskKey) -> String { "\(rootDirectory)/head-\(Self.tag(disk))" }
    /// That the disk has got its image.
    func copyNote(_ disk: RootDiskKey) -> String { "\(rootDirectory)/written-\(Self.tag(disk))" }
    private static func tag(_ disk: RootDiskKey) -> String { UUID(version5: disk.name, namespace: namespace).uuidString.lowercased() }

    /// The domain's UUID, which is the SMBIOS system UUID, of a pod that asks for none.
    var machine: MachineID { MachineID(UUID(version5: container, namespace: Self.namespace)) }
    var domain: String { "swiftlet-\(Self.short(container))" }
    /// At most 15 bytes (IFNAMSIZ).
    /// - Parameter number: 0 for the pod's first interface.
    func tap(_ number: Int) -> String { number == 0 ? "sw\(Self.short(container))" : "s\(number)\(Self.short(container))" }

    var runDirectory: String { "\(configuration.runDirectory)/\(Self.short(container))" }
    var stateDirectory: String { "\(Self.podDirectory(pod, configuration))/\(Self.short(container))" }
    var consoleSocket: String { "\(runDirectory)/console" }
    var vhostSocket: String { "\(runDirectory)/vhost" }
    var hostSocket: String { "\(runDirectory)/vsock" }
    func vsock(_ user: MachineUser) -> VsockPlace {
        VsockPlace(
            vhostSocket: vhostSocket, hostSocket: hostSocket, log: "\(runDirectory)/vsockd.log", contextID: contextID, user: user)
    }
    /// 31 bits of the machine's id (0 to 2 and 2^32-1 are reserved).
    private var contextID: UInt32 {
        let bytes = withUnsafeBytes(of: machine.uuid.uuid) { Array($0.prefix(4)) }
        return max(bytes.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } & 0x7FFF_FFFF, 3)
    }
    /// Of the sockets that QEMU and its TPM make: their modes are open to the group, which all machines have.
    var emulatorDirectory: String { "\(runDirectory)/qemu" }
    var guestAgentSocket: String { "\(emulatorDirectory)/qga" }
    /// On disk: the guest decides how much it writes, and /run is memory.
    var console: String { "\(stateDirectory)/console.log" }
    var rootDisk: String { "\(stateDirectory)/root.qcow2" }
    /// The machine's own node of a root disk that is a block volume.
    var rootDevice: String { "\(stateDirectory)/root-device" }
    /// Where a volume's disk.img is lent.
    var rootImage: String { "\(stateDirectory)/root.img" }
    var seed: String { "\(stateDirectory)/seed.iso" }
    /// An ephemeral disk of the pod's annotations.
    func dataDisk(_ volume: String) -> String { "\(stateDirectory)/data-\(volume).qcow2" }
    /// The machine's own node of a block device.
    func deviceNode(_ number: Int) -> String { "\(stateDirectory)/device-\(number)" }
    /// The machine's own node of the device that renders.
    var renderNode: String { "\(stateDirectory)/render" }
    /// UEFI's.
    var variables: String { "\(stateDirectory)/variables.fd" }
    var tpmState: String { "\(stateDirectory)/tpm" }
    /// Where a volume's file of a TPM is lent.
    var lentTPM: String { "\(stateDirectory)/tpm.state" }
    var tpmSocket: String { "\(emulatorDirectory)/tpm" }
    var vncSocket: String { "\(emulatorDirectory)/vnc" }
    /// Not in the run directory, which is removed with all that is in it: other people's files are mounted here.
    var shareDirectory: String { "\(runDirectory).share" }
    var shareSocket: String { "\(runDirectory)/virtiofs" }
    var record: String { "\(stateDirectory)/machine.json" }
}
