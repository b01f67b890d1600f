import Foundation
import Support

/// The image of containerd's sandbox container: busybox, asleep. The sample image's command would end at once.
enum PauseImage {
    static let name = "localhost/swiftlet/pause:latest"

    /// An OCI archive made from this machine's busybox.
    static func archive() throws -> Data {
        var layer = TarBuilder()
        layer.directory("bin")
        layer.file("bin/busybox", try Data(contentsOf: URL(fileURLWithPath: "/bin/busybox")), mode: 0o755)
        var image = OCIImageBuilder(layers: [layer.finished()])
        image.cmd = ["/bin/busybox", "sleep", "2147483647"]
        return try OCIImageBuilder.archive([("pause", image.build())])
    }
}
