import Errors
import Linux
import Logging

/// The daemon's open files, of which every pod and container takes some.
enum OpenFiles {
    /// What a container takes: its log, the log's position and the connection that its output comes by; what a pod takes: connections to
    /// its agent, its QEMU and its helpers. `SystemTests/aContainerTakesNoMoreDescriptorsThanCounted` counts them.
    static let perContainer: UInt64 = 3
    static let perPod: UInt64 = 10
    /// For everything that does not grow with pods.
    static let base: UInt64 = 200
    /// A kubelet runs 110 pods by default.
    private static let pods: UInt64 = 110
    private static let containers: UInt64 = 1000

    /// Raises the limit as far as it goes.
    static func raiseLimit(_ logger: Logger) {
        do {
            let limit = try DescriptorLimit.raise()
            logger.debug("limit of open files", metadata: ["soft": "\(limit.soft)", "hard": "\(limit.hard)"])
            if let warning = warning(limit) { logger.warning("\(warning)") }
        } catch {
            logger.warning("the limit of open files was not raised", metadata: ["error": "\(error)"])
        }
    }

    /// What is wrong with the limit; nil when it lets a node of the usual size run.
    static func warning(_ limit: DescriptorLimit) -> String? {
        let needed = base + pods * perPod + containers * perContainer
        guard limit.soft < needed else { return nil }
        let room = limit.soft > base ? (limit.soft - base) / (perPod + perContainer) : 0
        return
            "the hard limit of open files is \(limit.hard), enough for \(room) pods of one container each; \(pods) pods with \(containers) "
            + "containers need \(needed): raise LimitNOFILE of the service (ulimit -Hn)"
    }
}
