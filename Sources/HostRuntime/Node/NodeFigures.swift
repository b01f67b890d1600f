import CLinux
import Glibc
import Linux
import Runtime

/// What the node says of itself.
enum NodeFigures {
    /// Bytes of RAM, and what of it can be had without swapping (/proc/meminfo).
    static func memory() -> (total: UInt64, available: UInt64) {
        let lines = KernelFile.text("/proc/meminfo")?.split(separator: "\n") ?? []
        func value(_ key: String) -> UInt64 {
            let words = lines.first { $0.hasPrefix(key + ":") }?.split(separator: " ") ?? []
            return words.count > 1 ? (UInt64(words[1]) ?? 0) << 10 : 0
        }
        return (value("MemTotal"), value("MemAvailable"))
    }

    /// Those of the calling thread's network namespace but loopback.
    static func interfaces() -> [InterfaceUsage] {
        let lines = KernelFile.text("/proc/thread-self/net/dev")?.split(separator: "\n") ?? []
        return lines.compactMap { line in
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { return nil }
            let name = parts[0].filter { $0 != " " }
            let numbers = parts[1].split(separator: " ").compactMap { UInt64($0) }
            guard name != "lo", numbers.count > 11 else { return nil }
            return .with {
                $0.name = name
                ($0.rxBytes, $0.rxPackets, $0.rxErrors, $0.rxDropped) = (numbers[0], numbers[1], numbers[2], numbers[3])
                ($0.txBytes, $0.txPackets, $0.txErrors, $0.txDropped) = (numbers[8], numbers[9], numbers[10], numbers[11])
            }
        }
    }
}

/// What a directory takes, with all below it.
enum DirectorySize {
    private static let most = 200_000

    /// Of more files than can be counted while somebody waits, what the first of them take. Through no link and no mount, whatever becomes
    /// of the directories meanwhile. Blocks.
    ///
    /// - Returns: nil for a directory that cannot be opened.
    static func measure(_ path: String) -> LayerUsage? {
        let top = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)
        var root = stat()
        guard top >= 0 else { return nil }
        defer { close(top) }
        guard fstat(top, &root) == 0 else { return nil }
        var usage = LayerUsage()
        // Names may be any bytes.
        var left = [Array(".".utf8CString)]
        while let directory = left.popLast() {
            let opened = clinux_open_beneath(top, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
            guard opened >= 0 else { continue }
            guard let stream = fdopendir(opened) else {
                close(opened)
                continue
            }
            defer { closedir(stream) }
            while let entry = readdir(stream) {
                let name = Array(UnsafeBufferPointer(start: clinux_entry_name(entry), count: strlen(clinux_entry_name(entry)) + 1))
                guard name != Array(".".utf8CString), name != Array("..".utf8CString) else { continue }
                var status = stat()
                guard fstatat(opened, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { continue }
                usage.usedBytes += UInt64(status.st_blocks) * 512
                usage.inodes += 1
                guard usage.inodes < most else { return usage }
                if status.st_mode & S_IFMT == S_IFDIR, status.st_dev == root.st_dev {
                    left.append(directory.dropLast() + [CChar(bitPattern: UInt8(ascii: "/"))] + name)
                }
            }
        }
        return usage
    }
}
