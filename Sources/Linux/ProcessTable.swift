import Glibc

/// Finds processes by their command lines, for those whose identity was never written down.
public enum ProcessTable {
    /// Every running process whose arguments `matches` accepts.
    public static func all(where matches: ([String]) -> Bool) -> [ProcessIdentity] {
        guard let directory = opendir("/proc") else { return [] }
        defer { closedir(directory) }
        var found: [ProcessIdentity] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard let pid = Int32(name), let process = ProcessIdentity.of(pid), let arguments = arguments(of: pid), matches(arguments),
                process.isAlive
            else { continue }
            found.append(process)
        }
        return found
    }

    /// The command line of a process; at most the first 64 KiB. Empty for kernel threads, nil without the process.
    public static func arguments(of pid: Int32) -> [String]? {
        guard let bytes = contents("/proc/\(pid)/cmdline", limit: 64 << 10) else { return nil }
        return bytes.split(separator: 0, omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
    }

    /// The first `limit` bytes of a file; nil when it cannot be opened.
    public static func contents(_ path: String, limit: Int) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        return [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
            count = 0
            while count < limit {
                let result = read(descriptor, buffer.baseAddress?.advanced(by: count), limit - count)
                guard result > 0 else { break }
                count += result
            }
        }
    }
}
