/// virtiofs devices. A pod's is plugged in when its first container needs it: a pod without mounts has none.
struct SharedFilesystems: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        for filesystem in spec.filesystems { domain.devices.append(Self.tag(filesystem)) }
    }

    /// The `<filesystem>` element; it takes one free root port. Needs shared guest memory, which every machine has.
    static func tag(_ filesystem: FilesystemSpec) -> XMLTag {
        XMLTag(
            "filesystem", ["type": "mount"],
            [
                XMLTag("driver", ["type": "virtiofs", "queue": "1024"]), XMLTag("source", ["socket": filesystem.socket]),
                XMLTag("target", ["dir": filesystem.tag]),
            ])
    }
}
