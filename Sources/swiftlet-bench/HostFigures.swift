/// Who runs a pod on the node.
enum HostKind: String, CaseIterable {
    case runc = "swiftlet, runc"
    case crun = "swiftlet, crun"
    case containerd

    /// The handler that a pod asks swiftletd for; nil for what containerd does by itself.
    var handler: String? { self == .containerd ? nil : "\(self)" }

    /// How much longer than containerd's, which runs runc, a call may take.
    var limit: Double { self == .crun ? 1 : 1.1 }
}

/// Calls for pods that OCI runtimes run on the node, beside containerd's.
struct HostFigures {
    private struct Key: Hashable {
        var kind: HostKind
        var operation: Operation
    }

    static let calls: [Operation] = [.runPodSandbox, .createContainer, .startContainer, .execSync, .stopPodSandbox]

    private var samples: [Key: Samples] = [:]
    /// Proportional set sizes of what runs beside each container, bytes.
    var besideContainer: [HostKind: UInt64] = [:]

    subscript(_ kind: HostKind, _ operation: Operation) -> Samples? { samples[Key(kind: kind, operation: operation)] }

    mutating func add(_ kind: HostKind, _ times: [(Operation, Duration)]) {
        for (operation, time) in times { samples[Key(kind: kind, operation: operation), default: Samples()].add(time) }
    }

    /// How many times longer a call takes than containerd's at the median; nil when one was not measured.
    func ratio(_ kind: HostKind, _ operation: Operation) -> Double? {
        guard let first = self[kind, operation], let second = self[.containerd, operation] else { return nil }
        return first.p50.milliseconds / second.p50.milliseconds
    }
}

extension Operation {
    /// Without what holds for machines alone.
    var onNode: String { self == .runPodSandbox ? "RunPodSandbox" : rawValue }
}
