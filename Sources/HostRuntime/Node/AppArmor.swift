import Errors
import Glibc
import Linux

/// AppArmor of the node's kernel (Documentation/admin-guide/LSM/apparmor.rst).
struct AppArmor: Sendable {
    /// sysfs.
    var root = "/sys"
    /// Bytes: a line for each profile that is loaded.
    private static let longest = 4 << 20

    /// Blocks.
    var isEnabled: Bool { KernelFile.text("\(root)/module/apparmor/parameters/enabled", limit: 16)?.hasPrefix("Y") ?? false }

    /// Refuses a profile that the node has not loaded, as the kernel would when the container starts. Blocks.
    ///
    /// - Throws: `.invalidArgument` naming the field.
    func check(_ profile: String) throws {
        let path = "\(root)/kernel/security/apparmor/profiles"
        let lines = String(decoding: try KernelFile.read(path, limit: Self.longest), as: UTF8.self).split(separator: "\n")
        // "name (enforce)"; a name may have blanks and brackets.
        let isLoaded = lines.contains { line in
            guard line.hasPrefix(profile + " ("), line.hasSuffix(")") else { return false }
            return !line.dropFirst(profile.count + 2).dropLast().contains { $0 == "(" || $0 == " " }
        }
        guard isLoaded else {
            throw SwiftletError(
                .invalidArgument,
                "config.linux.security_context.apparmor \(quoted(profile)): the node has loaded no such profile (apparmor_parser(8))")
        }
    }
}
