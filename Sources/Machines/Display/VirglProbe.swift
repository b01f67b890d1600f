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

    /// Why a machine of this user cannot have a 3D display; nil when it can. The user is in the node's group for it, as a machine is the
    /// owner of a node of its own (``RenderNode``).
    public func obstacle(user: MachineUser) async -> String? {
        // GL falls back on software, which would do on any file.
        guard let node = RenderNode.status(of: renderNode) else { return "virgl needs a render node, and \(renderNode) is none" }
        guard node.st_mode & 0o060 == 0o060 || node.st_mode & 0o006 == 0o006 else {
            return "virgl needs a render node that its group can read and write: \(renderNode) has group \(node.st_gid) and mode "
                + String(node.st_mode & 0o7777, radix: 8)
        }
        do {
            if let missing = try await missingOfEmulator() { return missing }
            // Drivers map whole address spaces.
            let program = UnprivilegedProgram(path: program, user: user, groups: [node.st_gid], addressSpace: 16 << 30, deadline: deadline)
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
