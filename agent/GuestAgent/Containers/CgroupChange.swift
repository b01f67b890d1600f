import Errors
import Glibc
import Linux

/// A change of several files of one cgroup: all of them, or the old values again.
struct CgroupChange {
    let path: String
    let files: [String: String]

    /// - Throws: `.failedPrecondition` for a controller that is not there, or a memory limit that what is in use does not fit
    ///   below; what the kernel says of a value it refuses. Everything is as it was then.
    func apply() throws(SwiftletError) {
        var done: [(name: String, old: String)] = []
        do throws(SwiftletError) {
            for (name, value) in files.sorted(by: { $0.key < $1.key }) {
                let old = KernelFile.text("\(path)/\(name)") ?? ""
                if name == "memory.max" { try makeRoom(for: value) }
                try ContainerCgroup.write(value, to: name, of: path)
                done.append((name, old))
            }
        } catch {
            for (name, old) in done.reversed() { restore(name, old) }
            throw error
        }
    }

    /// Asks the kernel to give back what exceeds a lower limit, so that the limit kills nobody.
    ///
    /// Setting memory.max below what is in use makes the kernel kill until it fits (cgroup-v2, "memory.max").
    private func makeRoom(for value: String) throws(SwiftletError) {
        guard let limit = UInt64(value), let used = number("memory.current"), used > limit else { return }
        // Kernels before 5.19 have no such file, and a partial success is an error as well: what counts is what is left.
        try? KernelFile.write("\(used - limit)", to: "\(path)/memory.reclaim")
        let left = number("memory.current") ?? 0
        guard left > limit else { return }
        throw SwiftletError(
            .failedPrecondition, "memory.max \(limit): \(left) bytes are in use and cannot be given back; the limit stays as it was")
    }

    private func number(_ name: String) -> UInt64? {
        KernelFile.text("\(path)/\(name)").flatMap { UInt64($0.prefix { $0 != "\n" }) }
    }

    /// Line by line, as such files are written; a device that had no line before gets the default.
    private func restore(_ name: String, _ old: String) {
        let lines = old.split(separator: "\n").map(String.init)
        if name == "io.max", let device = files[name]?.split(separator: " ").first {
            try? KernelFile.write("\(device) rbps=max wbps=max riops=max wiops=max", to: "\(path)/\(name)")
        }
        for line in lines.isEmpty && name != "io.max" ? ["\n"] : lines { try? KernelFile.write(line, to: "\(path)/\(name)") }
    }
}
