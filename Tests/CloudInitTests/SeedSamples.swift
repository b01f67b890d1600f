import Runtime

@testable import CloudInit

/// Requests for the golden files.
enum SeedSamples {
    static let pod = SandboxSpec.Metadata(name: "ubuntu-vm", uid: "7f9c8a52-5c5e-4f0b-9a55-0b1b6b5d1a11", namespace: "default", attempt: 0)

    static let bridge = AttachedNetwork(
        interfaceName: "eth0", mac: "02:00:00:00:00:01", mtu: 1500, addresses: ["10.88.0.5/16", "fd00:88::5/64", "fe80::1/64"],
        routes: [
            NetworkRoute(destination: "10.88.0.0/16", interface: "eth0", scope: 253),
            NetworkRoute(destination: "192.168.7.0/24", gateway: "10.88.0.2", interface: "eth0"),
            NetworkRoute(destination: "0.0.0.0/0", gateway: "10.88.0.1", interface: "eth0", mtu: 1400),
            NetworkRoute(destination: "::/0", gateway: "fd00:88::1", interface: "eth0"),
        ],
        additional: [AttachedInterface(name: "net1", mac: "02:00:00:00:00:02", mtu: 9000, addresses: ["10.99.0.5/24"])])

    static let calico = AttachedNetwork(
        interfaceName: "eth0", mac: "ee:ee:00:00:00:01", mtu: 1450, addresses: ["192.168.5.7/32", "fd00:5::7/128"],
        routes: [
            NetworkRoute(destination: "169.254.1.1/32", interface: "eth0", scope: 253),
            NetworkRoute(destination: "0.0.0.0/0", gateway: "169.254.1.1", interface: "eth0"),
            NetworkRoute(destination: "::/0", gateway: "fe80::ecee:eeff:feee:eeee", interface: "eth0"),
        ])

    static func request(
        _ annotations: [String: String] = [:], network: AttachedNetwork? = bridge, mounts: [ContainerMount] = []
    ) throws -> SeedRequest {
        let annotations = try VMAnnotations(pod: annotations)
        var request = SeedRequest(
            pod: pod, hostname: "ubuntu-vm", annotations: annotations, data: try annotations.seedData(from: mounts), network: network)
        request.dns = SandboxSpec.DNS(
            servers: ["10.96.0.10"], searches: ["default.svc.cluster.local", "cluster.local"], options: ["ndots:5"])
        return request
    }

    /// With everything that a guest can be given.
    static func full(_ annotations: [String: String] = [:]) throws -> SeedRequest {
        var request = try request(annotations)
        request.environment = ["A=plain", "B=with space", "A=later", #"C="q$`\"#, RawText(bytes: [0x44, 0x3D, 0xFF, 0x0A]), "E="]
        request.disks = [
            GuestDisk(serial: "data", bus: .scsi, devicePath: "/dev/testpvc"),
            GuestDisk(serial: "docker", bus: .virtio, mountPath: "/var/lib/docker", filesystem: "ext4"),
        ]
        request.shares = [
            GuestShare(tag: "share0", path: "/mnt/share", isReadOnly: false),
            GuestShare(tag: "pod", subPath: "abc/1", path: "/etc/it's config", isReadOnly: true),
            GuestShare(tag: "pod", subPath: "abc/2", path: "/etc/hosts", isReadOnly: false, isFile: true),
        ]
        request.bootCommands = ["systemctl start agent || true"]
        return request
    }

    static func file(_ path: String, _ request: SeedRequest, _ format: SeedFormat = .noCloud) throws -> String? {
        try Seed(request, format: format).files.first { $0.path == path }.map { String(decoding: $0.contents, as: UTF8.self) }
    }
}
