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

    /// Layers that name no parents, lead through links of lower ones and link to their files; volumes, for a read-only root.
    static func stacked() throws -> BuiltImage {
        var base = TarBuilder()
        base.directory("usr/bin", mode: 0o711)
        base.file("usr/bin/busybox", try Data(contentsOf: URL(fileURLWithPath: "/bin/busybox")), mode: 0o755)
        for applet in ["sh", "cat", "stat", "ls", "touch", "readlink"] { base.symlink("usr/bin/\(applet)", to: "busybox") }
        base.file("usr/bin/removed", "removed")
        base.symlink("bin", to: "usr/bin")
        base.directory("run")
        base.directory("var")
        base.symlink("var/run", to: "/run")
        base.directory("tmp", mode: 0o1777)
        base.directory("home/worker", mode: 0o700, uid: 1000, gid: 1000)
        var upper = TarBuilder()
        upper.file(
            "bin/check",
            Data(
                """
                #!/bin/sh
                stat -c '%n %a %u' /usr/bin /tmp /home/worker
                readlink /bin
                readlink /var/run
                cat /run/app/pid /home/worker/note
                [ -e /bin/removed ] || echo removed
                [ /again -ef /usr/bin/busybox ] && echo same
                touch /denied || echo read-only
                touch /data/new /var/run/made/new && ls /data /run/made

                """.utf8), mode: 0o755)
        upper.file("bin/.wh.removed", "")
        upper.file("var/run/app/pid", "7\n")
        upper.file("home/worker/note", "note\n")
        upper.file("tmp/x", "x")
        upper.file("data/own", "own\n")
        upper.hardLink("again", to: "bin/busybox")
        var builder = OCIImageBuilder(layers: [base.finished(), upper.finished()])
        builder.entrypoint = ["/bin/check"]
        builder.cmd = nil
        builder.volumes = ["/data", "/var/run/made"]
        return try builder.build()
    }

    /// Files for a machine that this one is not.
    static func foreign() throws -> BuiltImage {
        var tar = TarBuilder()
        tar.file("models/weights", "data\n")
        var builder = OCIImageBuilder(layers: [tar.finished()])
        builder.architecture = "s390x"
        return try builder.build()
    }
}
