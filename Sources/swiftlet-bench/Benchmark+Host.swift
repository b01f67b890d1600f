import GRPC
import Linux

extension Benchmark {
    /// Pods that OCI runtimes run on the node, in turn with containerd's.
    mutating func measureHost() async throws {
        guard let swiftlet = nodes.first(where: { $0.subject == .swiftlet }) else { return }
        var kinds: [(kind: HostKind, node: any RuntimeNode)] = []
        for kind in HostKind.allCases {
            guard let node = kind == .containerd ? nodes.first(where: { $0.subject == .containerd }) : swiftlet else { continue }
            if try await isServed(kind, by: node) { kinds.append((kind, node)) }
        }
        for round in 0..<(plan.warmUpRounds + plan.rounds) {
            progress("host: round \(round + 1) of \(plan.warmUpRounds + plan.rounds)")
            for turn in kinds.indices {
                let (kind, node) = kinds[(turn + round) % kinds.count]
                let times = try await podLife("host-\(kind)-\(round)", handler: kind.handler ?? "", on: node.cri)
                if round >= plan.warmUpRounds { results.host.add(kind, times) }
            }
        }
        for (kind, node) in kinds { results.host.besideContainer[kind] = try await memoryBesideContainer(kind, on: node) }
    }

    /// crun refuses the control groups of some nodes.
    private func isServed(_ kind: HostKind, by node: any RuntimeNode) async throws -> Bool {
        do {
            try await workload.removePod(workload.runPod("host-\(kind)-probe", handler: kind.handler ?? "", on: node.cri), on: node.cri)
            return true
        } catch let status as GRPCStatus where status.code == .failedPrecondition {
            progress("host: no pods of \(kind.rawValue): \(status)")
            return false
        }
    }

    /// conmon, or a shim with its sandbox's process, by container; the containers' own processes are the same for all.
    private func memoryBesideContainer(_ kind: HostKind, on node: any RuntimeNode) async throws -> UInt64 {
        let before = Self.supervisors(of: node)
        var pods: [String] = []
        let count = max(plan.memoryPods, 1)
        for number in 1...count {
            pods.append(try await workload.runFullPod("host-\(kind)-memory-\(number)", handler: kind.handler ?? "", on: node.cri))
        }
        let found = Self.supervisors(of: node).filter { !before.contains($0) }.compactMap { ProcessMemory(pid: $0.pid)?.proportional }
        for pod in pods { try await workload.removePod(pod, on: node.cri) }
        return found.reduce(0, +) / UInt64(count)
    }

    private static func supervisors(of node: any RuntimeNode) -> [ProcessIdentity] {
        ProcessTree.now().processes(of: node.directories)
            .filter { $0.program == "conmon" || $0.program == node.roles.helper }.map(\.identity)
    }
}
