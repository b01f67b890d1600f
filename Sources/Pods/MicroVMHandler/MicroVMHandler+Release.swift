import Errors
import Foundation
import Linux
import MicroVM
import PodNetwork

/// What the release of a machine needs when libvirt cannot help.
struct MachineDocument: Codable, Sendable {
    var process: ProcessIdentity?
}

/// What the release of a vsock device needs.
struct VsockDeviceDocument: Codable, Sendable {
    var process: ProcessIdentity?
}

extension MicroVMHandler {
    public func release(_ entry: LedgerEntry) async throws {
        switch entry.kind {
        case .directory: try Directory.remove(entry.name)
        case .networkNamespace: try await networks.deleteNamespace(path: entry.name)
        case .networkAttachment: try await networks.detach(entry.decoded(PodNetworkRequest.self))
        case .tap:
            let document = try entry.decoded([String: String].self)
            try await networks.deleteTap(name: entry.name, namespacePath: document["namespace"] ?? "")
        case .cgroup: try await releaseCgroup(entry)
        case .scratchDisk: try scratch.remove(entry.name)
        case .vsockDevice:
            let document = try entry.decoded(VsockDeviceDocument.self)
            try await VsockBackend(binary: configuration.vsockBackend).stop(hostSocket: entry.name, process: document.process)
        case .machine:
            guard let uuid = UUID(uuidString: entry.name) else { return }
            try await hypervisor.destroy(uuid: uuid, process: entry.decoded(MachineDocument.self).process)
            ends.ended(uuid, "destroyed")
        case .share, .shareDaemon, .shareMounts: try await releaseShare(entry)
        case .imageLease:
            throw SwiftletError(.internal, "image lease \(entry.name) is not the handler's to release")
        }
    }
}
