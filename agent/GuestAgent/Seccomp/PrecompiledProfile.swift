import AgentProtocol
import Errors
import Glibc
import Linux

/// The default profile for the usual capabilities, compiled when the guest's image is built: an emulated guest would need a
/// third of a second for it, in its first container's start.
enum PrecompiledProfile {
    /// Beside the agent: the capabilities' mask and the instructions, eight bytes each in the machine's order.
    private static let path = "/lib/seccomp/default"
    /// The kernel's most instructions (BPF_MAXINSNS), and the mask.
    private static let longest = (4096 + 1) * 8

    /// What the image's file holds.
    static func words() throws(SwiftletError) -> [UInt64] {
        let mask = try CapabilityNames.mask(DefaultCapabilities.names)
        return [mask] + (try DefaultSeccompProfile.filter(capabilities: mask)).instructions
    }

    /// Takes over what the image holds; without it the first container compiles.
    static func adopt() {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        let file = OwnedDescriptor(descriptor)
        guard let bytes = SmallFile.read(file.number, limit: longest) else { return }
        let words = bytes.withUnsafeBytes { raw in
            (0..<bytes.count / 8).map { raw.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self) }
        }
        guard let mask = words.first, words.count > 1 else { return }
        DefaultSeccompProfile.know(SeccompFilter(instructions: Array(words.dropFirst()), flags: 0), for: mask)
    }
}
