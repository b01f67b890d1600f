import Errors
import Glibc
import Linux

/// Finds SCSI disks by the serial that the host gave them.
enum ScsiDisks {
    /// Polls until a disk shows. Counted, not timed: a guest's clock may jump.
    private static let attempts = 2000
    private static let pause: useconds_t = 5000
    /// Attempts from one scan to the next. The guest's kernel is told not to scan by itself, and an event of a disk that is plugged
    /// in may be lost.
    private static let scanEvery = 100

    /// The device node of the disk with a serial, "/dev/sdb"; waits about ten seconds for one that is just being attached.
    ///
    /// - Throws: `.notFound` when it does not show; `.invalidArgument` for a serial that no disk can have.
    static func path(serial: String) throws(SwiftletError) -> String {
        guard !serial.isEmpty, serial.utf8.count <= 128, serial.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
            throw SwiftletError(.invalidArgument, "disk serial of \(serial.utf8.count) bytes is not 1 to 128 printable characters")
        }
        for attempt in 0..<attempts {
            if let path = find(serial) { return path }
            if attempt % scanEvery == 0 { scan() }
            usleep(pause)
        }
        throw SwiftletError(.notFound, "no disk with serial \(serial) was attached to the guest: attach it before it is named")
    }

    private static func find(_ serial: String) -> String? {
        for name in (try? KernelFile.names(in: "/sys/block")) ?? [] where name.hasPrefix("sd") {
            guard let page = KernelFile.bytes("/sys/block/\(name)/device/vpd_pg80", limit: 512), unitSerial(page) == serial else {
                continue
            }
            if isOpen("/dev/\(name)") { return "/dev/\(name)" }
        }
        return nil
    }

    /// The node appears a moment after the device does, and can be opened a moment later still: until then it says ENXIO.
    private static func isOpen(_ path: String) -> Bool {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
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

    /// All units of target 0, on which the host puts every disk.
    private static func scan() {
        for host in (try? KernelFile.names(in: "/sys/class/scsi_host")) ?? [] {
            try? Files.write("0 0 -", to: "/sys/class/scsi_host/\(host)/scan")
        }
    }
}
