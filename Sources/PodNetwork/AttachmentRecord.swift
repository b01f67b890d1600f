import Concurrency
import Errors
import FoundationEssentials
import Glibc
import Linux
import Runtime

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
    func read(_ request: PodNetworkRequest) async -> AttachmentRecord? {
        let path = path(request)
        return await OwnThread.answer {
            FileManager.default.contents(atPath: path).flatMap { try? JSONDecoder().decode(AttachmentRecord.self, from: $0) }
        }
    }

    /// All that can be read.
    func all() async throws -> [AttachmentRecord] {
        let directory = directory
        return try await OwnThread.run {
            let files = FileManager.default
            guard files.fileExists(atPath: directory) else { return [] }
            return try files.contentsOfDirectory(atPath: directory).filter { $0.hasSuffix(".json") }.compactMap { name in
                files.contents(atPath: "\(directory)/\(name)").flatMap { try? JSONDecoder().decode(AttachmentRecord.self, from: $0) }
            }
        }
    }

    /// Replaces the file in one step. Not forced to the disk: a power failure takes the namespaces too, and a DEL without
    /// record gives back what IPAM plugins have kept.
    func write(_ record: AttachmentRecord) async throws {
        let path = path(record.request)
        let step = "pod \(record.request.podID): recording its network attachment in \(path)"
        try await OwnThread.run { try AtomicFile.write(Array(JSONEncoder().encode(record)), to: path, mode: 0o600, step: step) }
    }

    func remove(_ request: PodNetworkRequest) async throws {
        let path = path(request)
        try await OwnThread.run {
            unlink(AtomicFile.temporary(path))
            guard unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR else {
                throw SwiftletError.system("pod \(request.podID): removing its network attachment's record")
            }
        }
    }

    /// Both parts were validated as identifiers.
    private func path(_ request: PodNetworkRequest) -> String { "\(directory)/\(request.podID)-\(request.interfaceName).json" }
}
