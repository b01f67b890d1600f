import Errors

/// Kernel parameters of a pod. Its machine has a kernel of its own: any parameter may be set, not only those that Linux keeps
/// by namespace.
enum SysctlRequest {
    private static let field = "config.linux.sysctls"

    /// Names as sysctl(8) takes them, parts joined by dots or slashes.
    ///
    /// - Throws: `.invalidArgument` for what can be no parameter. Whether the kernel has it the guest knows.
    static func checked(_ sysctls: [String: String]) throws -> [String: String] {
        for (name, value) in sysctls {
            let separator = name.first { $0 == "." || $0 == "/" } ?? "."
            let parts = name.split(separator: separator, omittingEmptySubsequences: false)
            let isName = name.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                    UInt8(ascii: "."), UInt8(ascii: "/"), UInt8(ascii: "_"), UInt8(ascii: "-"):
                    true
                default: false
                }
            }
            guard isName, name.utf8.count <= 253, parts.count > 1, parts.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." }) else {
                throw SwiftletError(
                    .invalidArgument, "\(field): \(quoted(name)) is no kernel parameter's name, as net.core.somaxconn is")
            }
            try Validation.text(value, "\(field) \(name)")
        }
        return sysctls
    }
}
