import Concurrency
import Errors
import Glibc
import Linux

/// Finds out whether guests can draw in 3D by a render node of this node.
///
/// That the node is there proves little: drivers fail, crash and hang. libvirglrenderer is brought up on it in a process of its own, as a
/// machine's user, once before a machine is given it.
public struct VirglProbe: Sendable {
    /// swiftlet-virgl-probe.
    public var program: String
    public var renderNode: String
    public var emulator: String
    public var deadline: Duration

    public init(
        program: String, renderNode: String = "/dev/dri/renderD128", emulator: String = "/usr/bin/qemu-system-x86_64",
        deadline: Duration = .seconds(10)
    ) {
        self.program = program
        self.renderNode = renderNode
        self.emulator = emulator
        self.deadline = deadline
    }

    /// Why a machine of this user cannot have a 3D display; nil when it can.
    public func obstacle(user: MachineUser) async -> String? {
        var status = stat()
        // GL falls back on software, which would do on any file. Render nodes are character devices of DRM's major, from minor 128 on (Linux'
        // Documentation/admin-guide/devices.txt).
        guard stat(renderNode, &status) == 0, status.st_mode & S_IFMT == S_IFCHR, (status.st_rdev >> 8) & 0xFFF == 226,
            status.st_rdev & 0xFF >= 128
        else {
            return "virgl needs a render node, and \(renderNode) is none"
        }
        do {
            if let missing = try await missingOfEmulator() { return missing }
            // Drivers map whole address spaces.
            let program = UnprivilegedProgram(path: program, user: user, addressSpace: 16 << 30, deadline: deadline)
            let result = try await program.spawn([renderNode]).run()
            guard !result.succeeded else { return nil }
            let reason = result.errorText.split(separator: "\n").suffix(3).joined(separator: "; ").prefix(512)
            return "virgl does not work on \(renderNode): \(reason.isEmpty ? "the probe ended with status \(result.status)" : reason)"
        } catch {
            return "virgl does not work on \(renderNode): \(error)"
        }
    }

    /// QEMU's parts come in packages of their own.
    private func missingOfEmulator() async throws -> String? {
        for (arguments, part) in [(["-device", "help"], "virtio-vga-gl"), (["-display", "help"], "egl-headless")] {
            let result = try await Spawn(emulator, arguments, deadline: deadline).check()
            guard result.outputText.contains(part) else { return "virgl needs QEMU's \(part) (package qemu-system-gui)" }
        }
        return nil
    }
}
