import Foundation
import Support

/// Images made for the tests from the machine's own busybox.
enum SampleImages {
    /// Three layers that replace, delete and hide each other's files, an entrypoint, a user and a working directory.
    static func layered(user: String = "worker") throws -> BuiltImage {
        var base = TarBuilder()
        base.directory("bin")
        base.file("bin/busybox", try Data(contentsOf: URL(fileURLWithPath: "/bin/busybox")), mode: 0o755)
        for applet in ["sh", "cat", "echo", "ls", "id", "pwd"] { base.symlink("bin/\(applet)", to: "busybox") }
        base.directory("etc")
        base.file("etc/passwd", "root:x:0:0::/root:/bin/sh\nworker:x:1000:1000::/work:/bin/sh\n")
        base.file("etc/group", "root:x:0:\nworker:x:1000:\n")
        base.file("replaced", "lower\n")
        base.file("deleted", "still here\n")
        base.directory("opaque")
        base.file("opaque/old", "old\n")
        var middle = TarBuilder()
        middle.file("replaced", "upper\n")
        middle.file(".wh.deleted", "")
        middle.directory("opaque")
        middle.file("opaque/.wh..wh..opq", "")
        middle.file("opaque/new", "new\n")
        var top = TarBuilder()
        top.file(
            "run.sh",
            """
            #!/bin/sh
            echo $GREETING
            pwd
            id -u
            cat /replaced
            [ -e /deleted ] && echo gone: no || echo gone: yes
            echo opaque: $(ls /opaque)

            """, mode: 0o755)
        var builder = OCIImageBuilder(layers: [base.finished(), middle.finished(), top.finished()])
        builder.entrypoint = ["/run.sh"]
        builder.cmd = nil
        builder.env.append("GREETING=from the image")
        builder.user = user
        builder.stopSignal = "SIGUSR1"
        builder.workingDir = "/work"
        return try builder.build()
    }
}
