import CLinux
import Errors
import Foundation
import Glibc
import Linux
import Machines
import Runtime
import State

/// What a daemon that has restarted must know of a container's machine, in a file beside its disk.
struct VMRecord: StoredDocument {
    static let what = "record of a VM"

    struct Mount: Codable, Sendable {
        /// In the container's mounts.
        var index: Int
        var mount: ContainerMount
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
    /// Its start was asked for.
    var isStarted = false
    var end: VMEnd?

    /// - Throws: `.notFound` without a file; `.dataLoss` for one that cannot be read.
    static func read(_ path: String) throws -> VMRecord {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw SwiftletError(.notFound, "\(path): \(String(cString: strerror(errno)))")
        }
        return try VMRecord(stored: data)
    }

    /// Replaces the file in one step.
    func write(_ path: String) throws {
        let partial = path + ".partial"
        do {
            try stored().write(to: URL(fileURLWithPath: partial))
        } catch {
            throw SwiftletError(.internal, "write \(partial)", cause: error)
        }
        guard chmod(partial, 0o600) == 0, rename(partial, path) == 0 else { throw SwiftletError.system("rename \(partial)") }
    }
}
