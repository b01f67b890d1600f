import Foundation
import Machines

extension UUID {
    /// 6ba7b810-9dad-41d1-80b4-00c04fd430c8
    static let example = UUID(
        uuid: (0x6B, 0xA7, 0xB8, 0x10, 0x9D, 0xAD, 0x41, 0xD1, 0x80, 0xB4, 0x00, 0xC0, 0x4F, 0xD4, 0x30, 0xC8))
}

extension VMSpec {
    /// A machine with everything left out that may be.
    static func minimal(
        uuid: UUID = .example, name: String = "swiftlet-minimal"
    ) -> VMSpec {
        VMSpec(
            uuid: uuid, name: name, memoryBytes: 128 << 20, vcpus: 1, kernel: "/usr/lib/swiftlet/guest/vmlinuz",
            initramfs: "/usr/lib/swiftlet/guest/initramfs.img", kernelArguments: GuestKernelArguments.standard,
            consoleLog: "/run/swiftlet/pods/a/console.log", vsock: .vhostUser(socket: "/run/swiftlet/pods/a/vhost.sock", cid: 17),
            accelerator: .tcg)
    }
}
