/// Who starts a pod, and out of what.
enum StartKind: String, CaseIterable {
    case pool = "swiftlet, from the pool"
    case cold = "swiftlet, cold"
    case containerd
}

/// What is timed of the start of a pod with one container.
enum StartStep: CaseIterable {
    case run
    case create
    case start
    /// From the call of RunPodSandbox to the first line in the container's log.
    case firstLine
    /// The same of each of several pods that start at once.
    case eachAtOnce
    /// From the first of those calls to the last one's first line.
    case allAtOnce
}

/// Starts of pods to their containers' first lines.
struct StartFigures {
    private struct Key: Hashable {
        var kind: StartKind
        var step: StartStep
    }

    private var samples: [Key: Samples] = [:]
    /// How many pods start at once, and how many machines wait.
    var atOnce = 0

    var isEmpty: Bool { samples.isEmpty }

    subscript(_ kind: StartKind, _ step: StartStep) -> Samples? { samples[Key(kind: kind, step: step)] }

    mutating func add(_ kind: StartKind, _ step: StartStep, _ time: Duration) {
        samples[Key(kind: kind, step: step), default: Samples()].add(time)
    }

    mutating func add(_ kind: StartKind, _ start: Workload.Start) {
        for (step, time) in start.times { add(kind, step, time) }
    }

    /// How many times longer a step takes than containerd's; nil when one was not measured.
    func ratio(_ kind: StartKind, _ step: StartStep, _ percent: Int = 50) -> Double? {
        guard let first = self[kind, step], let second = self[.containerd, step] else { return nil }
        return first.percentile(percent).milliseconds / second.percentile(percent).milliseconds
    }
}
