import Errors
import FoundationEssentials
import Glibc
import Linux

/// What is known on disk of one pod's attachment. Written before the first plugin runs and after each one, so that DEL
/// gets the configuration and the result that ADD worked with, whatever happened to the daemon or /etc in between.
struct AttachmentRecord: Sendable, Codable, Equatable {
    let request: PodNetworkRequest
    let network: CNINetworkList
    /// The last plugin's result so far.
    var result: JSONValue?
    /// Every plugin of the chain has run.
    var complete: Bool

    /// The addresses that the plugins gave the pod's first interface, in CIDR form.
    var addresses: [String] {
        let interfaces = result?["interfaces"]?.array ?? []
        return (result?["ips"]?.array ?? []).compactMap { ip in
            // An address without "interface" is the container's by the specification.
            if case .integer(let index)? = ip["interface"], let index = Int(exactly: index), interfaces.indices.contains(index) {
                guard interfaces[index]["name"]?.string == request.interfaceName else { return nil }
            }
            return ip["address"]?.string
        }
    }
}

/// The directory of attachment records: one file per pod and interface.
struct AttachmentRecords: Sendable {
    let directory: String

    /// Nil when there is none; one that cannot be decoded counts as none, since a DEL without it is better than no DEL.
    func read(_ request: PodNetworkRequest) -> AttachmentRecord? {
        FileManager.default.contents(atPath: path(request)).flatMap { try? JSONDecoder().decode(AttachmentRecord.self, from: $0) }
    }

    /// Replaces the file in one step. Not forced to the disk: a power failure takes the namespaces too, and a DEL without
    /// record gives back what IPAM plugins have kept.
    func write(_ record: AttachmentRecord) throws {
        let path = path(record.request)
        let step = "pod \(record.request.podID): recording its network attachment in \(path)"
        do {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        } catch {
            throw SwiftletError(.internal, step, cause: error)
        }
        let bytes = Array(try JSONEncoder().encode(record))
        let temporary = path + ".new"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw SwiftletError.system(step) }
        defer { close(descriptor) }
        var written = 0
        while written < bytes.count {
            let count = bytes[written...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            guard count > 0 || errno == EINTR else { throw SwiftletError.system(step) }
            written += max(0, count)
        }
        guard rename(temporary, path) == 0 else { throw SwiftletError.system(step) }
    }

    func remove(_ request: PodNetworkRequest) throws {
        unlink(path(request) + ".new")
        guard unlink(path(request)) == 0 || errno == ENOENT || errno == ENOTDIR else {
            throw SwiftletError.system("pod \(request.podID): removing its network attachment's record")
        }
    }

    /// Both parts were validated as identifiers.
    private func path(_ request: PodNetworkRequest) -> String { "\(directory)/\(request.podID)-\(request.interfaceName).json" }
}
