import Crypto
import Foundation

/// An image made of in-memory layers, ready to be pushed or written as an archive.
public struct BuiltImage: Sendable {
    public struct Blob: Sendable {
        public var digest: String
        public var mediaType: String
        public var bytes: Data

        public init(mediaType: String, bytes: Data) {
            digest = OCIImageBuilder.digest(bytes)
            self.mediaType = mediaType
            self.bytes = bytes
        }
    }

    public var config: Blob
    public var layers: [Blob]
    public var manifest: Blob
    public var platform: String

    /// What an image store calls the image.
    public var id: String { config.digest }
    public var blobs: [Blob] { layers + [config] }
}

/// Puts images together. Change a part afterwards to make an image that lies.
public struct OCIImageBuilder: Sendable {
    public enum Format: Sendable { case oci, docker }
    public enum Compression: String, Sendable { case none, gzip, zstd }

    public var format = Format.oci
    public var compression = Compression.gzip
    public var architecture = OCIImageBuilder.machine
    public var entrypoint: [String]?
    public var cmd: [String]? = ["/bin/sh"]
    public var env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    public var workingDir = ""
    public var user = ""
    public var stopSignal: String?
    public var labels: [String: String] = [:]
    public var volumes: [String] = []
    /// Digests to claim for the uncompressed layers instead of the true ones.
    public var diffIDs: [String]?
    /// Uncompressed tars, lowest first.
    public var layers: [Data] = []

    public static let machine = "amd64"

    public init(layers: [Data] = []) {
        self.layers = layers
    }

    public static func digest(_ bytes: Data) -> String {
        "sha256:" + SHA256.hash(data: bytes).map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
    }

    public func build() throws -> BuiltImage {
        let blobs = try layers.map { BuiltImage.Blob(mediaType: layerType, bytes: try Self.compress($0, compression)) }
        var process: [String: Any] = ["Env": env, "WorkingDir": workingDir, "User": user, "Labels": labels]
        process["Entrypoint"] = entrypoint
        process["Cmd"] = cmd
        process["StopSignal"] = stopSignal
        if !volumes.isEmpty { process["Volumes"] = Dictionary(uniqueKeysWithValues: volumes.map { ($0, [String: String]()) }) }
        let config = try Self.json([
            "architecture": architecture, "os": "linux", "config": process,
            "rootfs": ["type": "layers", "diff_ids": diffIDs ?? layers.map(Self.digest)] as [String: Any],
        ])
        let configType =
            format == .oci ? "application/vnd.oci.image.config.v1+json" : "application/vnd.docker.container.image.v1+json"
        return try Self.image(
            config: BuiltImage.Blob(mediaType: configType, bytes: config), layers: blobs, manifestType: manifestType, platform: architecture
        )
    }

    /// Writes a manifest over given blobs.
    public static func image(
        config: BuiltImage.Blob, layers: [BuiltImage.Blob], manifestType: String, platform: String = machine
    ) throws -> BuiltImage {
        let manifest = try json([
            "schemaVersion": 2, "mediaType": manifestType, "config": descriptor(config), "layers": layers.map { descriptor($0) },
        ])
        return BuiltImage(
            config: config, layers: layers, manifest: BuiltImage.Blob(mediaType: manifestType, bytes: manifest), platform: platform)
    }

    /// An index (or Docker manifest list) over several images.
    public static func index(of images: [BuiltImage], format: Format = .oci) throws -> BuiltImage.Blob {
        let type =
            format == .oci ? "application/vnd.oci.image.index.v1+json" : "application/vnd.docker.distribution.manifest.list.v2+json"
        let manifests = images.map { image in
            descriptor(image.manifest).merging(["platform": ["os": "linux", "architecture": image.platform]]) { $1 }
        }
        return BuiltImage.Blob(mediaType: type, bytes: try json(["schemaVersion": 2, "mediaType": type, "manifests": manifests]))
    }

    /// An OCI image layout as a tar.
    public static func archive(_ images: [(name: String, image: BuiltImage)]) throws -> Data {
        var tar = TarBuilder()
        for (path, content) in try layout(images).sorted(by: { $0.key < $1.key }) { tar.file(path, content) }
        return tar.finished()
    }

    /// The files of an OCI image layout by their paths.
    public static func layout(_ images: [(name: String, image: BuiltImage)]) throws -> [String: Data] {
        var files = ["oci-layout": Data(#"{"imageLayoutVersion":"1.0.0"}"#.utf8)]
        for (_, image) in images {
            for blob in image.blobs + [image.manifest] { files["blobs/sha256/\(blob.digest.dropFirst(7))"] = blob.bytes }
        }
        let manifests = images.map { name, image in
            descriptor(image.manifest).merging(["annotations": ["org.opencontainers.image.ref.name": name]]) { $1 }
        }
        files["index.json"] = try json(["schemaVersion": 2, "manifests": manifests])
        return files
    }

    public static func compress(_ bytes: Data, _ compression: Compression) throws -> Data {
        guard compression != .none else { return bytes }
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("layer-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: file) }
        try bytes.write(to: file)
        let process = ChildProcess()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        // Equal content, equal blob: gzip must not write the file's name and time.
        process.arguments = [compression.rawValue, "-c", "-q", "-1"] + (compression == .gzip ? ["-n"] : []) + [file.path]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let compressed = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw CocoaError(.fileWriteUnknown) }
        return compressed
    }

    private var manifestType: String {
        format == .oci ? "application/vnd.oci.image.manifest.v1+json" : "application/vnd.docker.distribution.manifest.v2+json"
    }

    private var layerType: String {
        let base = format == .oci ? "application/vnd.oci.image.layer.v1.tar" : "application/vnd.docker.image.rootfs.diff.tar"
        guard compression != .none else { return base }
        return base + (format == .oci ? "+" : ".") + compression.rawValue
    }

    private static func descriptor(_ blob: BuiltImage.Blob) -> [String: Any] {
        ["mediaType": blob.mediaType, "digest": blob.digest, "size": blob.bytes.count]
    }

    private static func json(_ object: [String: Any]) throws -> Data {
        try JSONSerialization.data(withJSONObject: object, options: [.sortedKeys, .withoutEscapingSlashes])
    }
}
