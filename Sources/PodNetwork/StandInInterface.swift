import Concurrency
import Errors
import Linux

/// Gives DEL the interface that it looks for when the pod's own is gone.
///
/// Plugins learn the addresses whose rules they must remove from the interface in the namespace (bridge with ipMasq does,
/// up to 1.1.1, whatever prevResult says) and leave the rules behind when it is missing. So a pod whose namespace or
/// interface vanished before DEL gets an interface of the same name with the recorded addresses for the time of DEL.
struct StandInInterface: Sendable {
    private let record: AttachmentRecord
    /// Named for the pod, so that a second try after a crash finds and removes it.
    private let spare: String

    init(_ record: AttachmentRecord, directory: String) {
        self.record = record
        spare = "\(directory)/\(record.request.podID)-\(record.request.interfaceName).netns"
    }

    /// Calls `delete` with the path of the namespace to name, which is empty when nothing is known of the attachment.
    func use(_ delete: (String) async throws -> Void) async throws {
        let own = record.request.namespacePath
        let path = NetworkNamespace.isBound(at: own) ? own : record.addresses.isEmpty ? "" : spare
        guard !path.isEmpty else { return try await delete("") }
        let (name, addresses) = (record.request.interfaceName, record.addresses.compactMap { IPPrefix($0) })
        try await OwnThread.run {
            if path == spare { try NetworkNamespace.create(at: spare) }
            try NetworkNamespace.runAndWait(in: path) {
                let netlink = try RouteNetlink()
                guard !addresses.isEmpty, try netlink.link(named: name) == nil else { return }
                try netlink.createVeth(name, peer: "peer-\(name)".prefix(15).description)
                guard let link = try netlink.link(named: name) else { return }
                for address in addresses { try netlink.add(address: address, link: link.index) }
            }
        }
        let outcome: Result<Void, any Error>
        do { outcome = .success(try await delete(path)) } catch { outcome = .failure(error) }
        if path == spare { try await OwnThread.run { try NetworkNamespace.delete(at: spare) } }
        try outcome.get()
    }
}
