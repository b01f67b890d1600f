import Foundation
import MicroVM

extension VMSpec {
    /// A machine with everything left out that may be.
    static func minimal(
        uuid: UUID = UUID(uuidString: "6ba7b810-9dad-41d1-80b4-00c04fd430c8")!, name: String = "swiftlet-minimal"
    ) -> VMSpec {
        VMSpec(
            uuid: uuid, name: name, memoryBytes: 128 << 20, vcpus: 1, kernel: "/usr/lib/swiftlet/guest/vmlinuz",
            initramfs: "/usr/lib/swiftlet/guest/initramfs.img", kernelArguments: GuestKernelArguments.standard,
            consoleLog: "/run/swiftlet/pods/a/console.log", vsock: .vhostUser(socket: "/run/swiftlet/pods/a/vhost.sock", cid: 17),
            accelerator: .tcg)
    }
}
