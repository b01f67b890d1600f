import Errors
import Glibc
import Linux
import Synchronization

/// The guest's SCSI disks by the serials that the host gave them.
final class ScsiDisks: Sendable {
    /// Names in /sys/block by serial, as last seen: a name may be another disk's by now.
    private let seen = Mutex<[String: String]>([:])
    private let blockDevices: String
    private let nodes: String

    /// - Parameters:
    ///   - blockDevices: where the kernel lists block devices.
    ///   - nodes: where their nodes are.
    init(blockDevices: String = "/sys/block", nodes: String = "/dev") {
        self.blockDevices = blockDevices
        self.nodes = nodes
    }

    /// The device node of the disk with a serial, "/dev/sdb". Does not wait: ``DeviceWaits`` does.
    ///
    /// - Throws: `.notFound`; `.invalidArgument` for a serial that no disk can have.
    func path(serial: String) throws(SwiftletError) -> String {
        try Self.check(serial)
        guard !present([serial]).isEmpty, let name = seen.withLock({ $0[serial] }) else {
            throw SwiftletError(.notFound, "no disk with serial \(serial) is attached to the guest: attach it before it is named")
        }
        return "\(nodes)/\(name)"
    }

    /// - Throws: `.invalidArgument` for a serial that no disk can have.
    static func check(_ serial: String) throws(SwiftletError) {
        guard !serial.isEmpty, serial.utf8.count <= 128, serial.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
            throw SwiftletError(.invalidArgument, "disk serial of \(serial.utf8.count) bytes is not 1 to 128 printable characters")
        }
    }

    /// Those of the serials whose disks can be opened.
    func present(_ serials: Set<String>) -> Set<String> {
        let known = seen.withLock { $0 }
        // Opened each time: a disk that was unplugged and plugged in again may have its name back before it can be opened.
        var present = serials.filter { serial in known[serial].map { self.serial(of: $0) == serial && isOpen($0) } ?? false }
        if present.count < serials.count {
            let current = all()
            seen.withLock { $0 = current }
            present = serials.intersection(current.keys)
        }
        return present
    }

    private func all() -> [String: String] {
        var disks: [String: String] = [:]
        for name in (try? KernelFile.names(in: blockDevices)) ?? [] where name.hasPrefix("sd") {
            guard let serial = serial(of: name) else { continue }
            if isOpen(name) { disks[serial] = name }
        }
        return disks
    }

    private func serial(of name: String) -> String? {
        KernelFile.bytes("\(blockDevices)/\(name)/device/vpd_pg80", limit: 512).flatMap(Self.unitSerial)
    }

    /// The node appears a moment after the device does, and can be opened a moment later still: until then it says ENXIO.
    private func isOpen(_ name: String) -> Bool {
        let descriptor = open("\(nodes)/\(name)", O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        // Any other error is there to stay, and the caller's to meet.
        guard descriptor >= 0 else { return errno != ENXIO && errno != ENOENT }
        close(descriptor)
        return true
    }

    /// The serial in a SCSI vital product data page 80h (SPC-4, 7.8.18): four bytes of header, then text padded with spaces.
    static func unitSerial(_ page: [UInt8]) -> String? {
        guard page.count >= 4, page[1] == 0x80 else { return nil }
        let length = Int(page[2]) << 8 | Int(page[3])
        var text = page.dropFirst(4).prefix(length)
        while let last = text.last, last == 0x20 || last == 0 { text.removeLast() }
        while let first = text.first, first == 0x20 { text.removeFirst() }
        return String(decoding: text, as: UTF8.self)
    }

    /// Has the kernel look at all units of target 0, on which the host puts every disk.
    static func scan() {
        for host in (try? KernelFile.names(in: "/sys/class/scsi_host")) ?? [] {
            try? Files.write("0 0 -", to: "/sys/class/scsi_host/\(host)/scan")
        }
    }
}
