import Foundation
import Machines

extension MachineID {
    static let example = MachineID(
        UUID(uuid: (0x6B, 0xA7, 0xB8, 0x10, 0x9D, 0xAD, 0x41, 0xD1, 0x80, 0xB4, 0x00, 0xC0, 0x4F, 0xD4, 0x30, 0xC8)))

    static func random() -> MachineID { MachineID(UUID()) }
}

extension MachineSpec {
    /// A machine with everything left out that may be.
    static func minimal(id: MachineID = .example, name: String = "swiftlet-minimal") -> MachineSpec {
        MachineSpec(
            id: id, name: name, shape: MachineShape(memoryBytes: 128 << 20, vcpus: 1, accelerator: .tcg),
            boot: .kernel(
                path: "/usr/lib/swiftlet/guest/vmlinuz", initramfs: "/usr/lib/swiftlet/guest/initramfs.img",
                arguments: GuestKernelArguments.standard),
            devices: [
                .console(ConsoleSpec(log: "/run/swiftlet/pods/a/console.log")), .random, .balloon,
                .vsock(.vhostUser(socket: "/run/swiftlet/pods/a/vhost.sock", cid: 17)),
            ])
    }

    /// Replaces the devices of the same kind.
    mutating func set(_ device: MachineDevice) {
        devices.removeAll { $0.id == device.id }
        devices.append(device)
    }

    mutating func add(_ disks: [DiskSpec]) { devices += disks.map { .disk($0) } }

    var kernelArguments: [String] {
        get { if case .kernel(_, _, let arguments) = boot { arguments } else { [] } }
        set { if case .kernel(let path, let initramfs, _) = boot { boot = .kernel(path: path, initramfs: initramfs, arguments: newValue) } }
    }

    var kernel: String {
        get { if case .kernel(let path, _, _) = boot { path } else { "" } }
        set {
            if case .kernel(_, let initramfs, let arguments) = boot {
                boot = .kernel(path: newValue, initramfs: initramfs, arguments: arguments)
            }
        }
    }
}
