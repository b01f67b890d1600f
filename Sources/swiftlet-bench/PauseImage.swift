import Crypto
import Errors
import Foundation
import Linux

/// The image of containerd's sandbox container: busybox, asleep. The sample image's command would end at once.
struct PauseImage {
    static let name = "localhost/swiftlet/pause:latest"

    /// Writes an OCI archive made from this machine's busybox.
    ///
    /// - Parameter archive: its path; the files that it is made of lie beside it.
    static func write(to archive: String) async throws {
        let image = PauseImage(layout: archive + ".layout")
        try FileManager.default.createDirectory(atPath: image.blobs, withIntermediateDirectories: true)
        let tar = image.layout + "/layer.tar"
        try await run("/bin/tar", ["--create", "--dereference", "--file", tar, "--directory", "/", "bin/busybox"])
        let layer = try image.blob(Data(contentsOf: URL(fileURLWithPath: tar)), "application/vnd.oci.image.layer.v1.tar")
        let config = try image.blob(
            Data(
                """
                {"architecture": "\(Platform.current.architecture)", "os": "linux", "config": {"Cmd": ["/bin/busybox", "sleep", "2147483647"]},
                 "rootfs": {"type": "layers", "diff_ids": ["\(layer.digest)"]}}
                """.utf8), "application/vnd.oci.image.config.v1+json")
        let manifest = try image.blob(
            Data(#"{"schemaVersion": 2, "config": \#(config.json), "layers": [\#(layer.json)]}"#.utf8),
            "application/vnd.oci.image.manifest.v1+json")
        try image.file("index.json", #"{"schemaVersion": 2, "manifests": [\#(manifest.json)]}"#)
        try image.file("oci-layout", #"{"imageLayoutVersion": "1.0.0"}"#)
        try await run("/bin/tar", ["--create", "--file", archive, "--directory", image.layout, "oci-layout", "index.json", "blobs"])
    }

    /// What a document names another by (OCI image specification, "descriptor").
    private struct Descriptor {
        var digest: String
        var json: String
    }

    private let layout: String
    private var blobs: String { layout + "/blobs/sha256" }

    private func blob(_ bytes: Data, _ type: String) throws -> Descriptor {
        let hash = SHA256.hash(data: bytes).map { String(format: "%02x", $0) }.joined()
        try bytes.write(to: URL(fileURLWithPath: "\(blobs)/\(hash)"))
        return Descriptor(
            digest: "sha256:\(hash)", json: #"{"mediaType": "\#(type)", "digest": "sha256:\#(hash)", "size": \#(bytes.count)}"#)
    }

    private func file(_ name: String, _ text: String) throws {
        try text.write(toFile: "\(layout)/\(name)", atomically: false, encoding: .utf8)
    }

    private static func run(_ program: String, _ arguments: [String]) async throws {
        let result = try await Spawn(program, arguments).run()
        guard result.succeeded else { throw SwiftletError(.internal, "\(program) for the pause image: \(result.errorText)") }
    }
}
