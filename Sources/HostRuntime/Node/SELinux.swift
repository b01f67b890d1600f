import CLinux
import Errors
import Glibc
import Linux
import Runtime

/// SELinux of the node's kernel (selinux(8)).
struct SELinux: Sendable {
    /// What a container's processes have, and what its files have.
    struct Labels: Sendable, Equatable {
        var process: String
        var file: String
    }

    /// selinuxfs.
    var root = "/sys/fs/selinux"
    var configuration = "/etc/selinux"

    /// Blocks.
    var isEnabled: Bool { access("\(root)/enforce", F_OK) == 0 }

    /// A label's parts.
    private struct Context {
        var user: String
        var role: String
        var type: String
        /// Nil: the policy has none.
        var level: String?

        init?(_ text: String) {
            let parts = text.split(separator: ":", maxSplits: 3, omittingEmptySubsequences: false).map(String.init)
            guard parts.count >= 3, parts.allSatisfy({ !$0.isEmpty }) else { return nil }
            (user, role, type, level) = (parts[0], parts[1], parts[2], parts.count > 3 ? parts[3] : nil)
        }

        var text: String { [user, role, type, level].compactMap(\.self).joined(separator: ":") }
    }

    /// The labels of a container for which somebody has written options; what they leave out is the policy's own (lxc_contexts(5)), and the
    /// level is one of the pod's own. Blocks.
    ///
    /// - Throws: `.invalidArgument` naming the field for what the kernel's policy does not have.
    func labels(_ options: SELinuxOptions, pod: String) throws -> Labels {
        let standard = standardContexts()
        guard var process = Context(standard["process"] ?? "system_u:system_r:container_t:s0"),
            var file = Context(standard["file"] ?? "system_u:object_r:container_file_t:s0")
        else { throw SwiftletError(.failedPrecondition, "lxc_contexts of the node's SELinux policy has no labels") }
        func chosen(_ option: String, _ standard: String) -> String { option.isEmpty ? standard : option }
        process.user = chosen(options.user, process.user)
        process.role = chosen(options.role, process.role)
        process.type = chosen(options.type, process.type)
        if process.level != nil || !options.level.isEmpty {
            let level = chosen(options.level, Self.level(of: pod))
            (process.level, file.level) = (level, level)
        }
        for label in [process.text, file.text] {
            guard !label.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7F || $0 == UInt8(ascii: "\"") }) else {
                throw SwiftletError(.invalidArgument, "config.linux.security_context.selinux_options: \(quoted(label)) is no label")
            }
            do {
                // The kernel takes a label that its policy has (security_check_context(3)).
                try KernelFile.write(label, to: "\(root)/context")
            } catch {
                throw SwiftletError(
                    .invalidArgument,
                    "config.linux.security_context.selinux_options: the node's SELinux policy has no label \(quoted(label))", cause: error)
            }
        }
        return Labels(process: process.text, file: file.text)
    }

    /// Two categories of the 1,024 that policies have, from the pod's id: containers of a pod may read each other's files, others may not.
    private static func level(of pod: String) -> String {
        var number: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in pod.utf8 { number = (number ^ UInt64(byte)) &* 0x100_0000_01B3 }
        let first = Int(number >> 32 & 1023)
        let second = (first + 1 + Int(number >> 8 % 1023)) % 1024
        return "s0:c\(min(first, second)),c\(max(first, second))"
    }

    /// `process = "system_u:system_r:container_t:s0"`
    private func standardContexts() -> [String: String] {
        func assignments(_ path: String) -> [String: String] {
            let lines = (KernelFile.text(path) ?? "").split(separator: "\n").filter { !$0.hasPrefix("#") }
            let pairs = lines.compactMap { line -> (String, String)? in
                guard let equals = line.firstIndex(of: "=") else { return nil }
                func value(_ text: Substring) -> String { String(text.filter { $0 != " " && $0 != "\t" && $0 != "\"" }) }
                return (value(line[..<equals]), value(line[line.index(after: equals)...]))
            }
            return Dictionary(pairs) { $1 }
        }
        let policy = assignments("\(configuration)/config")["SELINUXTYPE"] ?? "targeted"
        return assignments("\(configuration)/\(policy)/contexts/lxc_contexts")
    }

    // MARK: Files

    /// What is never a container's, whoever asks.
    private static let system: Set = [
        "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp",
        "/usr", "/var", "/var/lib", "/var/log",
    ]
    private static let deepest = 256

    /// Gives a directory with all that is in it, on its filesystem, or a file, the label. Blocks.
    func relabel(_ path: String, as label: String) throws {
        guard let resolved = realpath(path, nil) else { throw SwiftletError.system("relabel \(path)") }
        defer { free(resolved) }
        let path = String(cString: resolved)
        guard !Self.system.contains(path) else {
            throw SwiftletError(.invalidArgument, "selinux_relabel: \(path) is the node's own, and gets no label of a container")
        }
        var status = stat()
        guard lstat(path, &status) == 0 else { throw SwiftletError.system("relabel \(path)") }
        try relabel(path, label, status, on: status.st_dev, depth: 0)
    }

    private func relabel(_ path: String, _ label: String, _ status: stat, on device: dev_t, depth: Int) throws {
        // A filesystem without labels of files' own has one for all.
        guard clinux_set_label(path, label) == 0 || errno == ENOTSUP || errno == ENOENT else {
            throw SwiftletError.system("relabel \(path)")
        }
        guard status.st_mode & S_IFMT == S_IFDIR, depth < Self.deepest else { return }
        for name in try KernelFile.names(in: path) {
            var own = stat()
            guard lstat("\(path)/\(name)", &own) == 0, own.st_dev == device else { continue }
            try relabel("\(path)/\(name)", label, own, on: device, depth: depth + 1)
        }
    }
}
