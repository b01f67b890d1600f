import CLibvirt
import Errors
import FoundationEssentials

extension LibvirtHypervisor {
    public func attachFilesystem(_ filesystem: FilesystemSpec, to uuid: UUID) async throws {
        try filesystem.validate()
        try await change(uuid, "attach filesystem \(filesystem.tag)") { domain, liveXML, step in
            guard !SharedFilesystem.isAttached(filesystem.tag, in: liveXML) else { return }
            let xml = SharedFilesystem.tag(filesystem).rendered()
            guard virDomainAttachDeviceFlags(domain.pointer, xml, VIR_DOMAIN_AFFECT_LIVE.rawValue) == 0 else {
                throw SwiftletError.libvirt(step)
            }
        }
    }
}
