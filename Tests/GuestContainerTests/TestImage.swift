import AgentProtocol
import Foundation
import Linux
import Support

/// Layers as read-only disk images, made from the machine's busybox.
struct TestImage: Sendable {
    /// Serial and file, the lowest layer first.
    var files: [(serial: String, file: String)]
    var filesystem = "squashfs"

    /// One layer: a shell with the usual commands, two users, four groups.
    static let plain = TestImage(files: [("base", base)])

    /// The plain image with `script` run in the directory of a further layer on top.
    static func extended(by script: String) throws -> TestImage {
        TestImage(files: [("base", base), ("top", try layer(script))])
    }

    private static let directory: HeldDirectory? = {
        // The disks are attached by open file: nothing needs the names once the tests have ended.
        atexit { TestImage.directory?.remove() }
        return try? HeldDirectory("swiftlet-layers-")
    }()

    private static let base: String = (try? layer(baseScript)) ?? ""

    private static let baseScript = """
        mkdir -p bin etc root dev proc sys tmp home/app work
        cp /usr/bin/busybox bin/busybox
        for name in cat chmod chown cut date dd echo env false grep head hostname id kill ln ls mkdir mknod mount nproc printf ps pwd \
            readlink rm seq setsid sh sleep sort stat sync tail test touch tr true tty umount wc; do ln -s busybox bin/$name; done
        printf 'root:x:0:0:root:/root:/bin/sh\\napp:x:1000:1001:App:/home/app:/bin/sh\\n' > etc/passwd
        printf 'root:x:0:\\napp:x:1001:\\nextra:x:2000:app,other\\nwheel:x:10:root,app\\n' > etc/group
        printf 'not a program' > bin/garbage; chmod 755 bin/garbage
        printf '#!/no/such/interpreter\\n' > bin/orphan; chmod 755 bin/orphan
        printf 'data' > bin/data; chmod 644 bin/data
        chmod 1777 tmp
        """

    /// The plain image on EROFS, which can show its files with other owners.
    static func erofs() throws -> TestImage {
        TestImage(files: [("base", try layer(baseScript, command: "mkfs.erofs --quiet $1 . >/dev/null"))], filesystem: "erofs")
    }

    /// Runs `script` in an empty directory and packs that.
    private static func layer(
        _ script: String, command: String = "mksquashfs . $1 -quiet -no-progress -comp gzip >/dev/null"
    ) throws -> String {
        guard let directory else { throw CocoaError(.fileNoSuchFile) }
        let tree = URL(fileURLWithPath: "\(directory.path)/\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: tree, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: tree) }
        let image = tree.path + ".squashfs"
        let process = ChildProcess()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.currentDirectoryURL = tree
        process.arguments = ["-euc", script + "\n" + command, "layer", image]
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw CocoaError(.executableLoad) }
        return image
    }

    /// A container of this image with the default capabilities of container runtimes.
    func spec(_ arguments: String...) -> AgentContainerSpec {
        var spec = AgentContainerSpec()
        spec.root.layers = files.map { file in
            var layer = AgentLayerDisk()
            layer.serial = file.serial
            layer.filesystem = filesystem
            return layer
        }
        spec.process.args = arguments
        spec.process.capabilities.bounding = DefaultCapabilities.names
        spec.process.capabilities.permitted = DefaultCapabilities.names
        spec.process.capabilities.effective = DefaultCapabilities.names
        return spec
    }

    /// `script` run by the image's shell.
    func shell(_ script: String) -> AgentContainerSpec { spec("sh", "-c", script) }
}

extension AgentMountSpec {
    init(_ type: String, from source: String, to destination: String, _ options: [String] = []) {
        self.init()
        self.type = type
        self.source = source
        self.destination = destination
        self.options = options
    }
}
