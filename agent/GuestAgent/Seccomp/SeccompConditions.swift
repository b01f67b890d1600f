import AgentProtocol
import Errors
import Glibc
import Linux

/// Decides which rules of a profile count for a container on this kernel.
struct SeccompConditions {
    /// The container's bounding set.
    let capabilities: UInt64

    /// - Throws: `.invalidArgument` for unknown capabilities and for versions that are none.
    func hold(for rule: AgentSeccompRule) throws(SwiftletError) -> Bool {
        let included = rule.includes
        guard try CapabilityNames.mask(included.capabilities) & ~capabilities == 0 else { return false }
        guard included.architectures.isEmpty || included.architectures.contains(Platform.current.architecture) else { return false }
        if !included.minimumKernel.isEmpty, try !Self.kernelIsAtLeast(included.minimumKernel) { return false }
        let excluded = rule.excludes
        guard try CapabilityNames.mask(excluded.capabilities) & capabilities == 0 else { return false }
        guard !excluded.architectures.contains(Platform.current.architecture) else { return false }
        if !excluded.minimumKernel.isEmpty, try Self.kernelIsAtLeast(excluded.minimumKernel) { return false }
        return true
    }

    private static func kernelIsAtLeast(_ version: String) throws(SwiftletError) -> Bool {
        let wanted = version.split(separator: ".", omittingEmptySubsequences: false).map { Int($0) }
        guard wanted.count == 2, let major = wanted[0], let minor = wanted[1] else {
            throw SwiftletError(.invalidArgument, "minKernel \"\(printable(version))\" is no version as \"4.8\" is")
        }
        var system = utsname()
        uname(&system)
        let release = withUnsafeBytes(of: system.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        let own = release.split { $0 == "." || $0 == "-" }.prefix(2).map { Int($0) ?? 0 } + [0, 0]
        return (own[0], own[1]) >= (major, minor)
    }
}
