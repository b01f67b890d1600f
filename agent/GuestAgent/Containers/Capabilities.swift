import AgentProtocol
import CContainer
import Errors
import Linux

/// capabilities(7) by name, as bits.
enum CapabilityNames {
    private static let bits: [String: UInt64] = Dictionary(
        uniqueKeysWithValues: KernelCapabilities.names.enumerated().map { ($0.element, UInt64(1) << UInt64($0.offset)) })

    /// - Throws: `.invalidArgument` naming the first unknown capability.
    static func mask(_ names: [String]) throws(SwiftletError) -> UInt64 {
        var mask: UInt64 = 0
        for name in names {
            guard let bit = bits[name] else {
                throw SwiftletError(.invalidArgument, "unknown capability \"\(printable(name))\": use names as in capabilities(7)")
            }
            mask |= bit
        }
        return mask
    }
}

extension cc_capabilities {
    /// The wanted sets, without what the machine denies to the agent itself.
    /// - Throws: `.invalidArgument` for unknown names and for sets that the kernel cannot give.
    init(_ wanted: AgentCapabilities, available: UInt64) throws(SwiftletError) {
        self.init(
            bounding: try CapabilityNames.mask(wanted.bounding) & available,
            permitted: try CapabilityNames.mask(wanted.permitted) & available,
            effective: try CapabilityNames.mask(wanted.effective) & available,
            inheritable: try CapabilityNames.mask(wanted.inheritable) & available,
            ambient: try CapabilityNames.mask(wanted.ambient) & available)
        guard effective & ~permitted == 0 else {
            throw SwiftletError(.invalidArgument, "effective capabilities must be permitted as well")
        }
        guard ambient & ~(permitted & inheritable) == 0 else {
            throw SwiftletError(.invalidArgument, "ambient capabilities must be permitted and inheritable as well")
        }
    }
}
