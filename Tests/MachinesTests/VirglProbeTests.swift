import Errors
import Foundation
import Testing

@testable import Machines

@Suite(.enabled(if: geteuid() == 0, "the probe runs as another user"), .timeLimit(.minutes(1))) struct VirglProbeTests {
    private let user = MachineUser(uid: 2_001_500_001, gid: 2_001_500_001)
    private let directory = "/tmp/swiftlet-virgl-\(UUID().uuidString.prefix(8))"

    /// - Parameters:
    ///   - node: nil: a render node that has no driver.
    ///   - mode: of that node.
    ///   - group: whose that node is.
    ///   - emulator: what QEMU says of its parts.
    ///   - program: the script that stands for the probe; nil: the real one.
    private func obstacle(
        node: String? = nil, mode: mode_t = 0o666, group: gid_t = 0, emulator: String = "virtio-vga-gl egl-headless", program: String?
    ) async throws -> String? {
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        defer { try? FileManager.default.removeItem(atPath: directory) }
        func script(_ name: String, _ text: String) throws -> String {
            try Data("#!/bin/sh\n\(text)\n".utf8).write(to: URL(filePath: "\(directory)/\(name)"))
            chmod("\(directory)/\(name)", 0o755)
            return "\(directory)/\(name)"
        }
        let orphan = "\(directory)/renderD255"
        #expect(mknod(orphan, S_IFCHR | 0o666, 226 << 8 | 255) == 0 && chown(orphan, 0, group) == 0 && chmod(orphan, mode) == 0)
        let probe: String
        if let program {
            probe = try script("probe", program)
        } else {
            // As the machine's user, who need not get through to the build's directory.
            probe = "\(directory)/probe"
            try FileManager.default.copyItem(atPath: SystemTestGround.built("swiftlet-virgl-probe"), toPath: probe)
        }
        return try await VirglProbe(
            program: probe, renderNode: node ?? orphan, emulator: script("qemu", "echo \(emulator)"), deadline: .seconds(5)
        ).obstacle(user: user)
    }

    @Test func whatIsMissingIsNamed() async throws {
        let noNode = try await obstacle(node: "/dev/dri/absent", program: "exit 0")
        #expect(noNode?.contains("/dev/dri/absent is none") == true)
        let other = try await obstacle(node: "/dev/null", program: "exit 0")
        #expect(other?.contains("/dev/null is none") == true)
        let noDevice = try await obstacle(emulator: "egl-headless", program: "exit 0")
        #expect(noDevice?.contains("virtio-vga-gl") == true)
        let noDisplay = try await obstacle(emulator: "virtio-vga-gl", program: "exit 0")
        #expect(noDisplay?.contains("egl-headless") == true)
    }

    @Test func aDriverThatFailsCrashesOrHangsIsARefusalAndNoMore() async throws {
        #expect(try await obstacle(program: "exit 0") == nil)
        let failure = try await obstacle(program: "echo no EGL >&2; exit 1")
        #expect(failure?.contains("no EGL") == true)
        let crash = try await obstacle(program: "kill -SEGV $$")
        #expect(crash?.contains("status 139") == true)
        let hang = try await obstacle(program: "exec sleep 100")
        #expect(hang?.contains("did not finish") == true)
        // It is the machine's user, without privileges.
        let who = try await obstacle(program: "id -u >&2; grep CapEff /proc/self/status >&2; exit 1")
        #expect(who?.contains("2001500001") == true && who?.contains("0000000000000000") == true)
    }

    /// As udev makes render nodes.
    @Test func aNodeThatIsOpenToItsGroupAloneIsProvedInThatGroupAndIsTheMachinesOwn() async throws {
        let program = "test -r \"$1\" && test -w \"$1\" && exit 0; id -G >&2; exit 1"
        #expect(try await obstacle(mode: 0o660, group: 2_001_500_007, program: program) == nil)
        let closed = try await obstacle(mode: 0o600, group: 2_001_500_007, program: program)
        #expect(closed?.contains("group 2001500007 and mode 600") == true, "\(closed ?? "it works")")

        let (device, own) = ("/tmp/swiftlet-render-\(getpid())", "/tmp/swiftlet-render-\(getpid())-own")
        defer { for path in [device, own] { unlink(path) } }
        #expect(mknod(device, S_IFCHR | 0o660, 226 << 8 | 255) == 0)
        for _ in 0..<2 { try RenderNode.create(own, of: device, owner: user) }
        let attributes = try FileManager.default.attributesOfItem(atPath: own)
        #expect(attributes[.ownerAccountID] as? UInt32 == user.uid && attributes[.posixPermissions] as? Int == 0o600)
        #expect(RenderNode.status(of: own)?.st_rdev == dev_t(226 << 8 | 255))
        #expect(throws: SwiftletError.self) { try RenderNode.create(own, of: "/dev/null", owner: user) }
    }

    /// The real program, on a node that no driver stands behind.
    @Test func theRealProgramRefusesANodeWithoutADriver() async throws {
        let refusal = try await obstacle(program: nil)
        #expect(refusal?.contains("virgl does not work on \(directory)/renderD255: ") == true, "\(refusal ?? "it works")")
        #expect(refusal?.contains("No such device") == true, "\(refusal ?? "")")
    }
}
