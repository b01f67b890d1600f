import Linux

/// Which pods the recovery has to be careful with when the daemon before crashed.
struct CrashFindings: Equatable {
    /// The daemon worked on this pod's data alone: the pod is set apart.
    private(set) var culprit: String?
    /// One of them did it: they are looked for one by one, so that the next crash accuses one alone.
    private(set) var suspects: Set<String> = []

    /// Crashes in a row after which every pod is a suspect although none is accused.
    static let unexplained = 3

    init(_ crash: CrashRecord.Crash?, pods: Set<String>) {
        guard let crash else { return }
        let accused = pods.intersection(crash.suspects)
        switch accused.count {
        case 0: suspects = crash.crashesInARow >= Self.unexplained ? pods : []
        case 1: culprit = accused.first
        default: suspects = accused
        }
    }
}
