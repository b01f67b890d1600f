import Errors
import Runtime

/// How much a pod's containers can write in all.
///
/// The CRI carries no ephemeral-storage limit: a kubelet measures and evicts. The size of the pod's scratch disk is what nothing in the pod
/// exceeds: the configured one, or what the pod's annotation says.
enum ScratchQuota {
    /// A quantity of Kubernetes: "2Gi".
    static let annotation = "swiftlet/scratch-size"
    /// ext4 with the directories of a few containers.
    static let least: UInt64 = 64 << 20

    /// Bytes, a multiple of 1 MiB.
    ///
    /// - Throws: `.invalidArgument` naming the annotation, for what is no quantity and for what is out of range.
    static func bytes(_ annotations: [String: String], configuration: MicroVMConfiguration) throws -> UInt64 {
        guard let text = annotations[annotation] else { return configuration.scratchSize }
        let most = max(configuration.mostScratchSize, configuration.scratchSize)
        guard let bytes = quantity(text) else {
            throw SwiftletError(.invalidArgument, "config.annotations \(annotation): \(quoted(text)) is no quantity such as 500Mi or 2Gi")
        }
        // A node may be configured to give less.
        let least = min(least, most)
        guard (least...most).contains(bytes) else {
            throw SwiftletError(
                .invalidArgument, "config.annotations \(annotation): \(quoted(text)) is not from \(least >> 20)Mi to \(most >> 20)Mi")
        }
        return (bytes >> 20) << 20
    }

    private static let units: [(suffix: String, bytes: UInt64)] = [
        ("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("Ti", 1 << 40), ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000),
        ("T", 1_000_000_000_000), ("", 1),
    ]

    /// Whole numbers with one of Kubernetes' units for bytes; nil for anything else.
    private static func quantity(_ text: String) -> UInt64? {
        guard let unit = units.first(where: { text.hasSuffix($0.suffix) }) else { return nil }
        let digits = text.dropLast(unit.suffix.count)
        guard (1...19).contains(digits.utf8.count), digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let number = UInt64(digits)
        else { return nil }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: unit.bytes)
        return overflow ? .max : bytes
    }
}
