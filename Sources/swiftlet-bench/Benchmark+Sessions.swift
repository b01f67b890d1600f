import Errors
import Foundation

/// What the sessions of one node are measured in.
struct SessionPod {
    let node: any RuntimeNode
    let name: String
    let pod: String
    /// Sleeps, and holds the file that is transferred.
    let container: String
}

extension Benchmark {
    /// 10^8 bytes, as one process writes them: a file of 10^6, named a hundred times.
    static let transferred = 100_000_000
    static let transfer = ["/bin/cat"] + Array(repeating: file, count: 100)
    private static let file = "/tmp/data"

    mutating func measureSessions() async throws {
        if plan.subjects.contains(.qemu) { try await measureVsock() }
        for node in nodes {
            let sessions = try await sessionPod(on: node)
            try await measureTransfers(sessions)
            try await workload.removePod(sessions.pod, on: node.cri)
        }
    }

    private func sessionPod(on node: any RuntimeNode) async throws -> SessionPod {
        progress("sessions: \(node.subject)'s pod")
        let (name, cri) = ("sessions-\(node.subject)", try await node.cri)
        let pod = try await workload.runPod(name, on: cri)
        let container = try await workload.createContainer("main", in: pod, podName: name, on: cri)
        try await workload.startContainer(container, on: cri)
        // Lines, as a program writes them.
        let line = String(repeating: "0123456789 ", count: 9)
        let code = try await workload.exec(
            ["/bin/sh", "-c", "yes '\(line)' | head -c 1000000 >\(Self.file)"], in: container, on: cri)
        guard code == 0 else { throw SwiftletError(.internal, "making \(Self.file) exited with \(code)") }
        return SessionPod(node: node, name: name, pod: pod, container: container)
    }

    /// What the emulated guest can carry at all.
    private mutating func measureVsock() async throws {
        progress("sessions: raw vsock")
        let ceiling = VsockCeiling(machine: raw, program: vsockGuest)
        for one in try await ceiling.measure(number: 0, bytes: Self.transferred, repetitions: plan.transfers) {
            results.add(.qemu, .vsock, one)
        }
    }

    private mutating func measureTransfers(_ sessions: SessionPod) async throws {
        let node = sessions.node
        for number in 1...plan.transfers {
            progress("sessions: \(node.subject), transfers \(number) of \(plan.transfers)")
            if let address = try await node.guestAddress(of: sessions.pod) {
                results.add(node.subject, .agent, try await AgentTransfer.take(Self.transfer, in: sessions.container, at: address))
            }
        }
    }
}
