import Errors
import Foundation
import Machines
import PodNetwork

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
            let document = try entry.decoded(ProcessDocument.self)
            try await VsockBackend(binary: configuration.vsockBackend).stop(hostSocket: entry.name, process: document.process)
        case .machine:
            guard let uuid = UUID(uuidString: entry.name) else { return }
            // The process is the way out when libvirt cannot help.
            try await hypervisor.destroy(uuid: uuid, process: entry.decoded(ProcessDocument.self).process)
            ends.ended(uuid, "destroyed")
        case .share, .shareDaemon, .shareMounts: try await releaseShare(entry)
        case .imageLease:
            throw SwiftletError(.internal, "image lease \(entry.name) is not the handler's to release")
        }
    }
}
