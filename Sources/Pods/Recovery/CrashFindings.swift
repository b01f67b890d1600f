import Linux

/// Which pods the recovery has to be careful with when the daemon before crashed.
struct CrashFindings: Equatable {
    /// The daemon crashed on this pod's data: the pod is set apart.
    private(set) var culprit: String?
    /// Nobody is accused, again and again: they are looked for one by one, before anything else happens.
    private(set) var suspects: Set<String> = []

    /// Crashes in a row after which every pod is a suspect although none is accused.
    static let unexplained = 3

    init(_ crash: CrashRecord.Crash?, pods: Set<String>) {
        guard let crash else { return }
        if let accused = crash.culprit {
            if pods.contains(accused) { culprit = accused }
        } else if crash.crashesInARow >= Self.unexplained {
            suspects = pods
        }
    }
}
