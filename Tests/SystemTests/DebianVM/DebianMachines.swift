import CRI
import CRIClient
import Errors
import Foundation
import GRPC
import Glibc
import Linux
import Support
import Testing

@testable import CloudInit

/// Two machines with Debian 12 (`make .build/samples/debian-vm.qcow2`), which all tests of the suite share: they boot at the same time, in a
/// minute and a half where they are emulated. Between them they have what the manifests in examples/ ask for.
struct DebianMachines: Sendable {
    @TaskLocal static var current: DebianMachines?

    /// By BIOS and SCSI, with a NoCloud seed and static addresses: examples/user.yaml, data-volume.yaml, shared-directory.yaml and
    /// block-volume.yaml in one.
    let fixed: VMOfPod
    /// By UEFI and virtio, with a TPM, a ConfigDrive seed and DHCP: examples/debian-dhcp.yaml, with its disk by URL.
    let dynamic: VMOfPod
    let node: Node
    let volumes: KubeletVolumes
    /// Private key of those whose public keys the machines were told of: by an annotation, and by a Secret.
    let keys: (annotation: String, secret: String)

    static let image = "localhost/swiftlet/debian-vm:latest"
    static let port = 8099
    static let disks = """
        [images.disks]
        prefix = "virtlet.cloud"
        [[images.disks.translations]]
        regexp = "cloud.debian.org/images/cloud/(\\\\w+)/latest/debian-12-genericcloud-amd64.qcow2"
        url = "http://127.0.0.1:\(port)/debian-vm.qcow2?$1"
        """

    static let objects = [
        "settings": ["colour": "blue\n", "size": "1\n"],
        "user-data": [
            "write_files": "- {path: /root/written, content: by the ConfigMap, permissions: '0640'}\n",
            "users": "- {name: configured, shell: /bin/sh, lock_passwd: true}\n", "runcmd": "- [sh, -c, 'echo ran >>/root/runcmd']\n",
        ],
        "files": [
            "plain": "plain text\n", "plain_path": "/opt/files/plain", "plain_encoding": "plain", "coded": "Y29kZWQK\n",
            "coded_path": "/opt/files/coded",
        ],
        "token": ["token": "secret token\n"],
    ]

    static func boot(on node: Node) async throws -> DebianMachines {
        let samples = URL(fileURLWithPath: node.environment.guest).deletingLastPathComponent().appending(path: "samples").path
        try #require(FileManager.default.fileExists(atPath: samples + "/debian-vm.qcow2"), "make \(samples)/debian-vm.qcow2")
        let home = node.environment.scratch + "/home"
        try FileManager.default.createDirectory(atPath: home, withIntermediateDirectories: true)
        for name in ["annotation", "secret"] where !FileManager.default.fileExists(atPath: "\(home)/\(name)") {
            try await Spawn("/usr/bin/ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", "\(home)/\(name)"]).check()
        }
        func publicKey(_ name: String) throws -> String { try String(contentsOfFile: "\(home)/\(name).pub", encoding: .utf8) }
        var objects = objects
        objects["keys"] = ["authorized_keys": try publicKey("secret")]
        let volumes = try KubeletVolumes(node, objects: objects)
        let cri = try await node.cri
        _ = try await cri.call(
            OperatorRPC.loadImage,
            .with {
                $0.path = samples + "/debian-vm.qcow2"
                $0.reference = image
            })
        let fixed = try await node.createVM(try fixedPod(publicKey("annotation")), volumes, image: image)
        try await node.start(fixed.container)

        let server = try RunningCommand(
            "/usr/bin/python3", ["-m", "http.server", "\(port)", "--bind", "127.0.0.1", "--directory", samples], environment: [:], in: home)
        defer { server.kill(SIGKILL) }
        let pod = try dynamicPod()
        let url = pod.container["image"]?.text ?? ""
        try await eventually("the disk is pulled: \(server.errors)") {
            await refusal { _ = try await cri.call(ImageRPC.pullImage, .with { $0.image.image = url }) } == nil
        }
        let dynamic = try await node.createVM(pod, volumes)
        try await node.start(dynamic.container)
        let machines = DebianMachines(
            fixed: fixed, dynamic: dynamic, node: node, volumes: volumes, keys: ("\(home)/annotation", "\(home)/secret"))
        for vm in [fixed, dynamic] { try await machines.waitForCloudInit(vm) }
        return machines
    }

    private static func fixedPod(_ key: String) throws -> PodManifest {
        var pod = try PodManifest.example("user.yaml")
        for file in ["data-volume.yaml", "shared-directory.yaml", "block-volume.yaml"] { pod.add(try .example(file)) }
        pod.name = "fixed"
        pod.mount("configMap", "user-data", at: "/etc/user-data")
        pod.mount("configMap", "files", at: "/etc/files")
        pod.mount("secret", "keys", at: "/etc/keys")
        pod.annotations.merge([
            "VirtletRootVolumeSize": "2Gi", "VirtletSSHKeys": key, "VirtletSSHKeySource": "secret/keys",
            "VirtletCloudInitUserDataSource": "configmap/user-data", "VirtletFilesFromDataSource": "configmap/files",
        ]) { $1 }
        pod.container = pod.container.merged(
            with: .map([
                (
                    "env",
                    .sequence([
                        .map([("name", .string("GREETING")), ("value", .string("hello, \"world\" $HOME"))]),
                        .map([("name", .string("PLAIN")), ("value", .string("1"))]),
                    ])
                )
            ]))
        return pod
    }

    private static func dynamicPod() throws -> PodManifest {
        var pod = try PodManifest.example("debian-dhcp.yaml")
        pod.name = "dynamic"
        pod.mount("secret", "token", at: "/etc/token")
        pod.annotations.merge([
            "VirtletCloudInitImageType": "configdrive", "VirtletDiskDriver": "virtio", "swiftlet/firmware": "uefi", "swiftlet/tpm": "true",
            "swiftlet/watchdog": "reset", "swiftlet/seed-volumes": "all",
            "swiftlet/data-volumes":
                "[{name: vol, size: 40M, mountPath: /somevol, filesystem: ext4}, {name: raw, size: 32M, devicePath: /dev/raw}]",
            "VirtletCloudInitUserDataScript": """
            #!/bin/sh
            umount /somevol
            @virtlet-mount-script@
            grep -c " /somevol " /proc/mounts >>/root/script
            """,
        ]) { $1 }
        return pod
    }

    /// Looks seldom, since each look costs the guest.
    private func waitForCloudInit(_ vm: VMOfPod) async throws {
        let deadline = ContinuousClock.now + .seconds(300)
        while true {
            do {
                if try await node.exec(vm.container, ["/usr/bin/test", "-e", "/run/cloud-init/result.json"], timeout: 30).exitCode == 0 {
                    return
                }
            } catch let status as GRPCStatus where status.code == .unavailable {}
            guard ContinuousClock.now < deadline else {
                throw SwiftletError(
                    .deadlineExceeded,
                    "cloud-init of \(vm.name) does not end: \(node.tail("\(node.logs)/\(vm.name).log")); \(node.tail(node.daemonLog))")
            }
            try await Task.sleep(for: .seconds(2))
        }
    }

    /// The power button ends both.
    func end() async throws {
        for vm in [fixed, dynamic] where try await node.status(of: vm.container).state == .containerRunning {
            let begin = ContinuousClock.now
            try await node.stop(vm.container, timeout: 90)
            let status = try await node.status(of: vm.container)
            #expect(status.exitCode == 0 && status.reason == "Completed", "\(vm.name): \(status)")
            #expect(ContinuousClock.now - begin < .seconds(60), "\(vm.name)")
        }
        for vm in [fixed, dynamic] { try await node.removePod(vm.pod) }
        try await volumes.remove()
    }

    // MARK: What tests ask the guests

    /// What a command of the guest's shell says, which has to succeed.
    func guest(_ vm: VMOfPod, _ command: String, sourceLocation: SourceLocation = #_sourceLocation) async throws -> String {
        let answer = try await node.exec(vm.container, ["/bin/sh", "-c", command], timeout: 120)
        let errors = String(decoding: answer.stderr, as: UTF8.self)
        #expect(answer.exitCode == 0, "\(vm.name): \(command): \(errors)", sourceLocation: sourceLocation)
        return String(decoding: answer.stdout, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }

    func address(of vm: VMOfPod) async throws -> String { try await node.podStatus(vm.pod).status.network.ip }

    enum Login {
        case key(String)
        case password(String)
    }

    /// OpenSSH's client, from the node.
    ///
    /// - Parameter port: of the loopback, that leads to the guest; nil: the pod's address.
    func ssh(_ vm: VMOfPod, _ user: String, _ login: Login, _ command: String, port: UInt16? = nil) async throws -> Spawn.Result {
        let home = node.environment.scratch + "/home"
        var options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=30", "LogLevel=ERROR"]
        var environment = ["HOME": home, "PATH": "/usr/bin:/bin"]
        switch login {
        case .key(let file):
            options += ["IdentitiesOnly=yes", "IdentityFile=\(file)", "PreferredAuthentications=publickey", "BatchMode=yes"]
        case .password(let password):
            options += ["PreferredAuthentications=password", "NumberOfPasswordPrompts=1"]
            let program = home + "/password"
            try "#!/bin/sh\necho '\(password)'\n".write(toFile: program, atomically: false, encoding: .utf8)
            chmod(program, 0o700)
            environment.merge(["SSH_ASKPASS": program, "SSH_ASKPASS_REQUIRE": "force"]) { $1 }
        }
        if let port { options.append("Port=\(port)") }
        let host = try await port == nil ? address(of: vm) : "127.0.0.1"
        let arguments = ["-F", "none"] + options.flatMap { ["-o", $0] } + ["\(user)@\(host)", command]
        return try await Spawn("/usr/bin/ssh", arguments, environment: environment, deadline: .seconds(90)).run()
    }
}

/// Gives a suite a node with both machines.
struct DebianTrait: SuiteTrait, TestScoping {
    func provideScope(for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void) async throws {
        guard test.isSuite else { return try await function() }
        var options = Node.Options()
        (options.hasSecondInterface, options.disks) = (true, DebianMachines.disks)
        try await NodeTrait(name: "debian", options: options, pod: nil).provideScope(for: test, testCase: testCase) {
            let node = try #require(NodeTrait.node)
            let before = try await Footprint.now(node)
            let machines = try await DebianMachines.boot(on: node)
            try await DebianMachines.$current.withValue(machines) { try await function() }
            try await machines.end()
            try await before.expectNothingAdded(node)
        }
    }
}
