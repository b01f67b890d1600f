import CRI
import Errors
import Foundation
import GRPC
import Glibc
import Linux
import Support
import Testing

private let cdi = FileManager.default.temporaryDirectory.path + "/swiftlet-cdi-\(getpid())"

private let hostConfiguration = """
    [host]
    cdi_spec_dirs = ["\(cdi)/etc", "\(cdi)/run"]
    [[host.handlers]]
    name = "host"
    runtime = "runc"
    namespaces = ["test"]
    """

/// Devices of pods on the node by files of the Container Device Interface, by runc.
@Suite(
    .enabled(if: systemTestsEnabled), .timeLimit(.minutes(10)), .serialized,
    .node("hostdev", Node.Options(host: hostConfiguration)))
struct HostDeviceTests {
    private func write(_ name: String, _ text: String, mode: Int = 0o644) throws {
        let path = "\(cdi)/\(name)"
        let directory = URL(fileURLWithPath: path).deletingLastPathComponent().path
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
    }

    private func create(
        in pod: String, _ name: String, _ change: @Sendable (inout CRIContainerConfig) -> Void
    ) async throws -> String {
        try await node().createContainer(in: pod, name, ["/bin/sleep", "600"]) {
            $0.linux.securityContext.namespaceOptions.pid = .container
            change(&$0)
        }
    }

    @Test func whatComesWithADeviceIsInItsContainerAndAnUnknownOneIsRefused() async throws {
        let node = try node()
        defer { try? FileManager.default.removeItem(atPath: cdi) }
        try write("files/library", "from the vendor\n")
        try write(
            "etc/vendor.yaml",
            """
            cdiVersion: "0.7.0"
            kind: vendor.com/gpu
            containerEdits:
              env: [VENDOR=all]
              additionalGids: [4711]
              hooks:
              - {hookName: createRuntime, path: /bin/sh, args: [sh, -c, "echo made >> \(cdi)/files/hooks"]}
              - {hookName: poststop, path: /bin/sh, args: [sh, -c, "echo ended >> \(cdi)/files/hooks"]}
            devices:
            - name: "0"
              containerEdits:
                env: [DEVICE=0]
                deviceNodes:
                - {path: /dev/vendor0, hostPath: /dev/zero, fileMode: 0600}
                - {path: /dev/vendorctl, hostPath: /dev/fuse, permissions: r}
                mounts:
                - {hostPath: \(cdi)/files, containerPath: /vendor/lib, options: [ro, nosuid, nodev, bind]}
            - name: overridden
              containerEdits: {env: [DEVICE=etc]}
            """)
        try write(
            "run/dynamic.json",
            """
            {"cdiVersion": "0.5.0", "kind": "vendor.com/gpu", "devices": [
              {"name": "overridden", "containerEdits": {"env": ["DEVICE=run"]}}]}
            """)
        try write("run/writable.json", "{}", mode: 0o666)
        let before = try await Footprint.now(node)
        let pod = try await node.runHostPod("devices")

        let given = try await create(in: pod, "given") {
            $0.envs = [.with { ($0.key, $0.value) = ("DEVICE", Data("own".utf8)) }]
            $0.cdiDevices = [.with { $0.name = "vendor.com/gpu=0" }]
        }
        try await node.start(given)
        let look = """
            echo $VENDOR $DEVICE; cat /vendor/lib/library; busybox head -c 3 /dev/vendor0 | busybox od -An -tx1
            : < /dev/vendorctl && echo opened; ls -l /dev/vendor0 | busybox cut -c 1-10; busybox id -G
            """
        #expect(
            try await node.shell(given, look) == "all 0\nfrom the vendor\n 00 00 00\nopened\ncrw-------\n0 4711\n")
        // Reading alone is allowed; the file's mode is no bar to root.
        #expect(try await node.shell(given, "echo x > /dev/vendorctl || true").contains("not permitted"))
        #expect(try await node.shell(given, "touch /vendor/lib/new 2>&1 || true").contains("Read-only file system"))
        #expect(try String(contentsOfFile: "\(cdi)/files/hooks", encoding: .utf8) == "made\n")

        // As a device plug-in has the kubelet say it; of two directories the later one counts.
        let annotated = try await create(in: pod, "annotated") { $0.annotations["cdi.k8s.io/vendor_0"] = "vendor.com/gpu=overridden" }
        try await node.start(annotated)
        #expect(try await node.shell(annotated, "echo $VENDOR-$DEVICE") == "-run\n")

        let unknown = await refusal {
            _ = try await self.create(in: pod, "unknown") { $0.cdiDevices = [.with { $0.name = "vendor.com/gpu=9" }] }
        }
        #expect(unknown?.code == .notFound)
        for word in ["vendor.com/gpu=9", "\(cdi)/etc", "\(cdi)/run", "writable.json"] {
            #expect(unknown?.message.contains(word) == true, "\(word): \(String(describing: unknown))")
        }
        try write("etc/second.yaml", "cdiVersion: 0.5.0\nkind: vendor.com/gpu\ndevices: [{name: \"0\"}]")
        let conflict = await refusal {
            _ = try await self.create(in: pod, "conflict") { $0.cdiDevices = [.with { $0.name = "vendor.com/gpu=0" }] }
        }
        #expect(
            conflict?.code == .failedPrecondition && conflict?.message.contains("second.yaml") == true, "\(String(describing: conflict))")

        try await node.stop(given, timeout: 1)
        try await node.removeContainer(given)
        try await eventually("the last hook runs") {
            try String(contentsOfFile: "\(cdi)/files/hooks", encoding: .utf8) == "made\nended\n"
        }
        try await node.stopPod(pod)
        try await node.removePod(pod)
        try await before.expectNothingAdded(node)
    }

    /// No log is followed there that would have it done.
    @Test func aStreamDaemonThatIsKilledIsStartedAgainOnANodeWithoutMachines() async throws {
        let node = try node()
        let killed = try #require(node.streamDaemon)
        killed.kill()
        try await eventually("there is another: \(node.streamDaemonLog)", within: .seconds(30)) {
            node.streamDaemon.map { $0 != killed && $0.isAlive } ?? false
        }
    }
}
