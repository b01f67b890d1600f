import Errors
import Foundation

/// What `make guest` leaves, and the sample image.
struct GuestFiles: Sendable {
    var kernel: String
    var initramfs: String
    /// The disk with the agent, the first of the machine.
    var agent: String
    var samples: String
    /// The kernel's release, such as 6.1.0-13-cloud-amd64; empty when it is not known.
    var kernelRelease: String

    /// - Throws: `.failedPrecondition` naming the file that is missing.
    init(directory: String) throws {
        let directory = URL(fileURLWithPath: directory).standardizedFileURL.path
        kernel = directory + "/vmlinuz"
        initramfs = directory + "/initramfs.img"
        agent = directory + "/agent.erofs"
        samples = directory + "/samples.tar"
        for file in [kernel, initramfs, agent, samples] where !FileManager.default.isReadableFile(atPath: file) {
            throw SwiftletError(.failedPrecondition, "\(file) is missing; run make guest")
        }
        let description = FileManager.default.contents(atPath: directory + "/guest.json").flatMap {
            try? JSONSerialization.jsonObject(with: $0) as? [String: Any]
        }
        kernelRelease = description?["kernel_release"] as? String ?? ""
    }
}
