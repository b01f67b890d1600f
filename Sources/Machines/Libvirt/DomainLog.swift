import Errors
import Glibc
import Linux

/// libvirt's log of one domain: what it started, what QEMU said, and why it ended. Later machines of the same name are appended.
///
/// libvirt's lines begin with `2026-11-28 11:41:30.123+0000: `. QEMU could forge them; its end is its own affair.
struct DomainLog {
    /// Of the log's end.
    static let limit = 64 << 10
    static let mostWords = 1024

    private let lines: [Substring]

    init(text: String) {
        let all = text.split(separator: "\n")
        lines = Array(all[(all.lastIndex { Self.entry($0)?.hasPrefix("starting up") == true } ?? all.startIndex)...])
    }

    /// Nil where there is no log.
    init?(directory: String, name: String) {
        guard MachineSpec.isName(name, longest: 64) else { return nil }
        let file = open("\(directory)/\(name).log", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard file >= 0 else { return nil }
        defer { close(file) }
        let size = lseek(file, 0, SEEK_END)
        let bytes = [UInt8](unsafeUninitializedCapacity: Self.limit) { buffer, count in
            count = max(0, pread(file, buffer.baseAddress, buffer.count, max(0, size - off_t(buffer.count))))
        }
        self.init(text: String(decoding: bytes, as: UTF8.self))
    }

    /// Removes the logs of machines that have long ended: libvirt keeps one for every name for ever.
    ///
    /// - Parameters:
    ///   - pidDirectory: where a machine that runs has a file `NAME.pid`.
    ///   - age: seconds since anything was written.
    static func prune(_ directory: String, pidDirectory: String, age: Int = 86_400) {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        for name in (try? KernelFile.names(in: directory)) ?? [] where name.hasSuffix(".log") {
            var status = stat()
            let path = "\(directory)/\(name)"
            guard lstat(path, &status) == 0, status.st_mtim.tv_sec < now.tv_sec - age,
                access("\(pidDirectory)/\(name.dropLast(4)).pid", F_OK) != 0
            else { continue }
            unlink(path)
        }
    }

    /// How the last machine ended; nil while it runs, as far as libvirt knows.
    var end: MachineEnd? {
        guard let last = lines.last(where: { Self.entry($0)?.hasPrefix("shutting down, reason=") == true }) else { return nil }
        return switch last.split(separator: "=").last {
        case "shutdown": .poweredOff
        case "destroyed": .destroyed
        case "saved": .saved
        // libvirt has ended a QEMU that lived: its guest had panicked.
        case "crashed" where lastWords.contains("terminating on signal 15"): .panicked
        case "crashed", "failed": .failed(lastWords: lastWords)
        default: .unseen
        }
    }

    /// What QEMU said last: its lines since its start, without its command line.
    var lastWords: String {
        // The command's lines but its last end with a backslash.
        let command = lines.lastIndex { $0.hasSuffix(" \\") }
        let said = lines.suffix(from: command.map { min($0 + 2, lines.endIndex) } ?? lines.startIndex).filter { Self.entry($0) == nil }
        let text = said.suffix(8).map { Self.withoutTime($0) }.joined(separator: "; ")
        let printable = text.unicodeScalars.map { MachineSpec.isPrintable(String($0)) ? String($0) : "?" }.joined()
        return String(printable.suffix(Self.mostWords))
    }

    /// The text of a line that is libvirt's own; nil for QEMU's.
    private static func entry(_ line: Substring) -> Substring? {
        guard let end = line.firstRange(of: "+0000: "), line.utf8.count > 20,
            line[..<end.lowerBound].utf8.allSatisfy({ (0x30...0x39).contains($0) || [0x20, 0x2D, 0x2E, 0x3A].contains($0) })
        else { return nil }
        return line[end.upperBound...]
    }

    /// A line of QEMU's without its time (`-msg timestamp=on`).
    private static func withoutTime(_ line: Substring) -> Substring {
        guard let space = line.firstIndex(of: " "), line[..<space].hasSuffix("Z"), line.first?.isNumber == true else { return line }
        return line[line.index(after: space)...]
    }
}
