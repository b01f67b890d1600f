/// Which lines of a log are shown, and how.
struct LogSelection: Equatable, Sendable {
    /// So many of the last lines that the log has at the start; nil: all.
    var tail: Int?
    /// Lines that began then or later.
    var since: LogTime?
    /// Whether each line's time stands before it.
    var timestamps = false
}

/// Says of each piece of a log whether it is shown. Lines are shown whole: their first piece decides.
struct LogLineFilter {
    /// What a piece is of the lines that are shown.
    enum Part: Equatable {
        case none
        case beginning
        case continuation
    }

    private enum Progress {
        case betweenLines
        case withinShown
        case withinHidden
    }

    let since: LogTime?
    /// Where the last lines begin in the present file; nil where all of its lines are meant.
    var tail: LogTail?
    private var stdout = Progress.betweenLines
    private var stderr = Progress.betweenLines
    private var hasShown = false

    init(since: LogTime?) { self.since = since }

    mutating func startTail(_ tail: LogTail) {
        self.tail = tail
        stdout = tail.stdout.isWithinLine ? .withinHidden : .betweenLines
        stderr = tail.stderr.isWithinLine ? .withinHidden : .betweenLines
    }

    mutating func part(_ line: CRILogLine, at offset: UInt64) -> Part {
        let part: Part
        switch line.source {
        case .stdout: (part, stdout) = step(line, at: offset, tail?.stdout, stdout)
        case .stderr: (part, stderr) = step(line, at: offset, tail?.stderr, stderr)
        }
        if part != .none { hasShown = true }
        return part
    }

    private func step(
        _ line: CRILogLine, at offset: UInt64, _ tail: LogTail.Source?, _ progress: Progress
    ) -> (Part, Progress) {
        var progress = progress
        if let tail, offset < tail.start { return (.none, line.isPartial ? .withinHidden : .betweenLines) }
        if let tail, offset == tail.start, !tail.isWithinLine { progress = .betweenLines }
        let part: Part =
            switch progress {
            case .betweenLines: isRecent(line) ? .beginning : .none
            case .withinShown: .continuation
            case .withinHidden: .none
            }
        return (part, line.isPartial ? (part == .none ? .withinHidden : .withinShown) : .betweenLines)
    }

    private func isRecent(_ line: CRILogLine) -> Bool {
        guard let since else { return true }
        guard let time = LogTime(line.timestamp) else { return hasShown }
        return time >= since
    }

    /// A line in another form has no time: it is as late as those before it.
    func showsMalformed(at offset: UInt64) -> Bool {
        offset >= tail?.malformed ?? 0 && (since == nil || hasShown)
    }
}
