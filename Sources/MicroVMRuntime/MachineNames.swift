import Foundation
import Linux
import Machines
import PodMachine
import Runtime
import State

/// Names of everything that a pod's machine owns, derived before any of it exists: from the pod's id, or from an id of its own for a machine
/// that waits for its pod.
struct MachineNames: Sendable {
    /// Identifies swiftlet's UUIDv5 names (RFC 9562, section 5.5).
    static let namespace = UUID(uuid: (0x6D, 0x3B, 0x8E, 0x5C, 0x0F, 0x4A, 0x4C, 0x7D, 0x9A, 0x12, 0x53, 0x77, 0x69, 0x66, 0x74, 0x4C))

    /// The pod's, or what stands for it as long as there is none.
    let id: String
    /// What the names are derived from.
    let origin: String
    let machine: MachineID
    let configuration: MicroVMConfiguration
    /// Context id of the guest. With the vhost-user backend each machine has a bus of its own; with the kernel's device ids are shared
    /// by the node, so that another may have to be taken; the ledger keeps the one that was.
    var contextID: UInt32
    /// Whom the machine and what serves it run as. The ledger keeps which user is the pod's.
    var user: MachineUser

    /// - Parameters:
    ///   - origin: of a machine that was not made for the pod; nil: the pod's id.
    ///   - machine: the machine that the pod has; nil: the origin's.
    init(id: String, origin: String? = nil, machine: MachineID? = nil, configuration: MicroVMConfiguration) {
        self.id = id
        self.origin = origin ?? id
        self.machine = machine ?? MachineID(UUID(version5: self.origin, namespace: Self.namespace))
        self.configuration = configuration
        user = configuration.sharedUser
        contextID = Self.contextID(of: self.machine)
    }

    /// Enough of the origin to be unique on a node and short enough for socket paths and device names.
    private var short: String { String(origin.prefix(13)) }

    var domain: String { "swiftlet-\(short)" }
    /// At most 15 bytes (IFNAMSIZ).
    var tap: String { "sw\(short)" }
    /// Interfaces beside the first one: a machine has a port for each.
    static let mostFurtherInterfaces = 4
    /// - Parameter number: from 1 on.
    func furtherTap(_ number: Int) -> String { "s\(number)\(short)" }
    /// MAC address of the interface's device, by which the agent finds it.
    func furtherMAC(_ number: Int) -> String {
        let bytes = withUnsafeBytes(of: machine.uuid.uuid) { Array($0.suffix(5)) }
        return Self.mac([0x06 + UInt8(number) << 2] + bytes)
    }
    var runDirectory: String { "\(configuration.runDirectory)/\(short)" }
    var stateDirectory: String { "\(configuration.stateDirectory)/\(short)" }
    var vhostSocket: String { "\(runDirectory)/vhost" }
    var hostSocket: String { "\(runDirectory)/vsock" }
    /// Not in the run directory, which is removed with all that is in it: other people's files are mounted here.
    var shareDirectory: String { "\(configuration.runDirectory)/\(short).share" }
    var shareSocket: String { "\(runDirectory)/virtiofs" }
    /// On disk: the guest decides how much it writes, and /run is memory.
    var console: String { "\(stateDirectory)/console.log" }
    var vsockLog: String { "\(runDirectory)/vsockd.log" }
    var vsock: VsockPlace {
        VsockPlace(vhostSocket: vhostSocket, hostSocket: hostSocket, log: vsockLog, contextID: contextID, user: user)
    }
    var scratchDisk: String { "\(configuration.stateDirectory)/scratch/\(short).img" }
    /// SCSI serial of the scratch disk.
    var scratchSerial: String { "scratch" }
    /// MAC address of the NIC at boot, by which the agent finds it. Locally administered.
    var bootMAC: String {
        let bytes = withUnsafeBytes(of: machine.uuid.uuid) { Array($0.suffix(5)) }
        return Self.mac([0x02] + bytes)
    }
    private static func mac(_ bytes: [UInt8]) -> String { bytes.map { String(format: "%02x", $0) }.joined(separator: ":") }
    /// 31 bits of the machine's id (0 to 2 and 2^32-1 are reserved).
    private static func contextID(of machine: MachineID) -> UInt32 {
        let bytes = withUnsafeBytes(of: machine.uuid.uuid) { Array($0.prefix(4)) }
        return max(bytes.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } & 0x7FFF_FFFF, 3)
    }
}
