import CRI
import CRIClient
import Errors
import Foundation

extension Benchmark {
    /// Pods to their containers' first lines: cold, then out of a pool that is full before each, in turn with containerd's.
    mutating func measureStarts() async throws {
        results.starts.atOnce = plan.poolSize
        try await measureStarts(.cold, rounds: plan.rounds, atOnce: 1)
        guard let node = swiftlet else { return }
        progress("pool: \(plan.poolSize) machines")
        try await node.restart(pool: plan.poolSize)
        try await measureStarts(.pool, rounds: plan.poolRounds, atOnce: plan.poolAtOnceRounds)
        try await node.restart(pool: 0)
    }

    private var swiftlet: SwiftletNode? { nodes.first { $0.subject == .swiftlet } as? SwiftletNode }

    /// - Parameter kind: of Swiftlet's pods.
    private mutating func measureStarts(_ kind: StartKind, rounds: Int, atOnce: Int) async throws {
        for round in 0..<(plan.warmUpRounds + rounds) {
            progress("pool: start \(round + 1) of \(plan.warmUpRounds + rounds), \(kind.rawValue) and containerd")
            for node in turns(round) {
                try await waitForPool(kind)
                let start = try await workload.start("\(kind)-\(node.subject)-\(round)", on: node.cri)
                if round >= plan.warmUpRounds { results.starts.add(node.subject == .swiftlet ? kind : .containerd, start) }
                try await check(start, kind, on: node)
                try await workload.removePod(start.pod, on: node.cri)
            }
        }
        for round in 0..<atOnce {
            progress("pool: \(plan.poolSize) pods at once, \(round + 1) of \(atOnce), \(kind.rawValue) and containerd")
            for node in turns(round) {
                try await waitForPool(kind)
                try await startAtOnce(kind, round, on: node)
            }
        }
    }

    /// Each goes first as often as the other does.
    private func turns(_ round: Int) -> [any RuntimeNode] {
        round.isMultiple(of: 2) ? nodes : nodes.reversed()
    }

    /// Also before containerd's turn: no machine is made meanwhile.
    private func waitForPool(_ kind: StartKind) async throws {
        guard kind == .pool, let swiftlet else { return }
        try await swiftlet.waitForPool(plan.poolSize)
    }

    private mutating func startAtOnce(_ kind: StartKind, _ round: Int, on node: any RuntimeNode) async throws {
        let (cri, workload, count) = (try await node.cri, workload, plan.poolSize)
        let began = ContinuousClock.now
        let starts = try await withThrowingTaskGroup(of: Workload.Start.self) { group in
            for number in 1...count {
                group.addTask { try await workload.start("\(kind)-\(node.subject)-\(round)-of-many-\(number)", on: cri) }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        let all = ContinuousClock.now - began
        let counted = node.subject == .swiftlet ? kind : .containerd
        results.starts.add(counted, .allAtOnce, all)
        for start in starts {
            if let time = start.times.first(where: { $0.0 == .firstLine })?.1 { results.starts.add(counted, .eachAtOnce, time) }
            try await check(start, kind, on: node)
            try await workload.removePod(start.pod, on: cri)
        }
    }

    /// A pod whose machine did not come from where it was to come from is no sample.
    private func check(_ start: Workload.Start, _ kind: StartKind, on node: any RuntimeNode) async throws {
        guard node.subject == .swiftlet, let swiftlet, try await swiftlet.isFromPool(start.pod) != (kind == .pool) else { return }
        throw SwiftletError(.internal, "the machine of pod \(start.pod) is not as asked for: \(kind.rawValue)")
    }
}

extension Workload {
    /// A pod whose container has written its first line.
    struct Start: Sendable {
        var pod: String
        var times: [(StartStep, Duration)]
    }

    private static let lineLimit = Duration.seconds(60)

    /// Starts a pod whose container says something and sleeps.
    func start(_ name: String, on cri: CRIConnection) async throws -> Start {
        let (began, log) = (ContinuousClock.now, log(of: "main", podName: name))
        let pod = try await runPod(name, on: cri)
        let ran = ContinuousClock.now
        let container = try await createContainer(
            "main", in: pod, podName: name, command: ["/bin/sh", "-c", "echo started; exec sleep 1000000"], on: cri)
        let created = ContinuousClock.now
        try await startContainer(container, on: cri)
        let started = ContinuousClock.now
        while !LogFile.hasLine(log) {
            guard started.duration(to: .now) < Self.lineLimit else {
                throw SwiftletError(.deadlineExceeded, "the container of pod \(name) says nothing")
            }
            try await Task.sleep(for: .milliseconds(1))
        }
        let said = ContinuousClock.now
        return Start(
            pod: pod, times: [(.run, ran - began), (.create, created - ran), (.start, started - created), (.firstLine, said - began)])
    }
}
