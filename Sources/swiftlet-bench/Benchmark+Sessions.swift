import Errors
import Foundation

/// What the sessions of one node are measured in.
struct SessionPod {
    let node: any RuntimeNode
    let client: SessionClient
    let name: String
    let pod: String
    /// They sleep, hold the file that is transferred, and have a server. Two, since one may not have as many sessions as are wanted.
    let containers: [String]

    var subject: Subject { node.subject }
}

extension Benchmark {
    private static let openSessions = 100
    private static let connections = 200
    /// 10^8 bytes, as one process writes them: a file of 10^6, named a hundred times.
    private static let transferred = 100_000_000
    private static let transfer = ["/bin/cat"] + Array(repeating: file, count: 100)
    private static let file = "/tmp/data"
    /// Lines of 100 bytes, as a program writes them.
    private static let makeFile = "yes '\(String(repeating: "0123456789 ", count: 9))' | head -c 1000000 >\(file)"
    private static let transferPort: UInt16 = 9

    mutating func measureSessions() async throws {
        if plan.subjects.contains(.qemu) { try await measureVsock() }
        guard !nodes.isEmpty else { return }
        try await PortServer.build(in: workload.programs)
        var pods: [SessionPod] = []
        for node in nodes { pods.append(try await sessionPod(on: node)) }
        progress("sessions: \(plan.sessions) execs by SPDY and WebSocket each")
        let warmUp = 5
        for number in 0..<(warmUp + plan.sessions) {
            for pod in pods { try await measureOpening(pod, counts: number >= warmUp) }
        }
        for number in 1...plan.transfers {
            progress("sessions: transfers \(number) of \(plan.transfers)")
            for pod in pods { try await measureTransfers(pod, number) }
            progress("sessions: \(Self.connections) connections")
            for pod in pods { try await measureConnections(pod) }
        }
        for pod in pods {
            try await measureSessionMemory(pod)
            try await workload.removePod(pod.pod, on: pod.client.cri)
        }
    }

    private func sessionPod(on node: any RuntimeNode) async throws -> SessionPod {
        progress("sessions: \(node.subject)'s pod")
        let (name, cri) = ("sessions-\(node.subject)", try await node.cri)
        let pod = try await workload.runPod(name, on: cri)
        var containers: [String] = []
        for (number, command) in [
            // Its file is there long before the first transfer.
            ["/bin/sh", "-c", "\(Self.makeFile); exec nc -ll -p \(Self.transferPort) -e \(Self.transfer.joined(separator: " "))"],
            [PortServer.directory + "/echo"],
        ].enumerated() {
            let container = try await workload.createContainer(
                "server-\(number)", in: pod, podName: name, command: command, programs: true, on: cri)
            try await workload.startContainer(container, on: cri)
            containers.append(container)
        }
        return SessionPod(node: node, client: try SessionClient(cri: cri), name: name, pod: pod, containers: containers)
    }

    private mutating func measureOpening(_ sessions: SessionPod, counts: Bool) async throws {
        for (version, operation) in [(SessionProtocol.spdy, Operation.execBySPDY), (.webSocket, .execByWebSocket)] {
            let time = try await sessions.client.exec(["/bin/echo", "up"], in: sessions.containers[0], by: version).toFirstByte
            if counts { results.add(sessions.subject, operation, time) }
        }
    }

    // MARK: Transfers

    /// What the emulated guest can carry at all.
    private mutating func measureVsock() async throws {
        progress("sessions: raw vsock")
        let ceiling = VsockCeiling(machine: raw, program: vsockGuest)
        for (transfer, one) in try await ceiling.measure(number: 0, bytes: Self.transferred, repetitions: plan.transfers) {
            results.add(.qemu, transfer, one)
        }
    }

    private mutating func measureTransfers(_ sessions: SessionPod, _ number: Int) async throws {
        let (client, container) = (sessions.client, sessions.containers[0])
        if let guest = try await sessions.node.guestAddress(of: sessions.pod) {
            results.add(sessions.subject, .agent, try await AgentTransfer.take(Self.transfer, in: container, at: guest))
        }
        for (version, transfer) in [(SessionProtocol.spdy, Transfer.execSPDY), (.webSocket, .execWebSocket)] {
            try add(try await client.exec(Self.transfer, in: container, by: version).count, transfer, sessions)
        }
        try add(try await attach(sessions, number), .attach, sessions)
        let forwarded = try await client.portForward(to: sessions.pod) {
            try await $0.receive(from: Self.transferPort, request: 0, bytes: Self.transferred)
        }
        try add(forwarded, .portForward, sessions)
    }

    /// A container writes to its log and to who is attached, from the moment on at which it gets a line.
    private func attach(_ sessions: SessionPod, _ number: Int) async throws -> TransferCount {
        let cri = sessions.client.cri
        let name = "attached-\(number)"
        let container = try await workload.createContainer(
            name, in: sessions.pod, podName: sessions.name,
            command: ["/bin/sh", "-c", "\(Self.makeFile); read line; exec \(Self.transfer.joined(separator: " "))"], stdin: true, on: cri)
        try await workload.startContainer(container, on: cri)
        let count = try await sessions.client.attach(to: container)
        try await workload.removeContainer(container, on: cri)
        try FileManager.default.removeItem(atPath: workload.log(of: name, podName: sessions.name))
        return count
    }

    private mutating func add(_ count: TransferCount, _ transfer: Transfer, _ sessions: SessionPod) throws {
        // Who is attached to swiftletd's containers and is slow loses bytes.
        guard let throughput = count.throughput, count.bytes == Self.transferred || transfer == .attach else {
            throw SwiftletError(.dataLoss, "\(transfer.rawValue) of \(sessions.subject): \(count.bytes) bytes came")
        }
        results.add(sessions.subject, transfer, throughput)
        results.lost[sessions.subject, default: 0] += max(0, Self.transferred - count.bytes)
    }

    // MARK: Connections

    private mutating func measureConnections(_ sessions: SessionPod) async throws {
        let (served, time) = try await sessions.client.portForward(to: sessions.pod) { ports in
            // The session itself is not timed.
            try await ports.echo(on: ports.connect(to: PortServer.port, request: 0))
            let start = ContinuousClock.now
            let served = await withTaskGroup(of: Bool.self) { group in
                for request in 1...Self.connections {
                    group.addTask {
                        do {
                            // All stay open: none is released before the session ends.
                            try await ports.echo(on: ports.connect(to: PortServer.port, request: request))
                            return true
                        } catch {
                            return false
                        }
                    }
                }
                return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
            }
            return (served, ContinuousClock.now - start)
        }
        var connections = results.connections[sessions.subject] ?? Connections(wanted: Self.connections)
        connections.add(served: served, time)
        results.connections[sessions.subject] = connections
    }

    // MARK: Memory

    private mutating func measureSessionMemory(_ sessions: SessionPod) async throws {
        let (node, client) = (sessions.node, sessions.client)
        guard let before = MemoryFigures.streams(node.roles, node.directories) else { return }
        progress("sessions: \(sessions.subject), \(Self.openSessions) open")
        let (opened, reports) = AsyncStream.makeStream(of: Result<Void, any Error>.self)
        let during = try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            for number in 0..<Self.openSessions {
                let container = sessions.containers[number % 2]
                let version = SessionProtocol.allCases[number / 2 % 2]
                group.addTask {
                    do {
                        let command = ["/bin/sh", "-c", "echo up; exec sleep 1000"]
                        _ = try await client.exec(command, in: container, by: version) { reports.yield(.success(())) }
                        reports.yield(.failure(SwiftletError(.internal, "sleep ended")))
                    } catch {
                        reports.yield(.failure(error))
                    }
                }
            }
            var count = 0
            for await one in opened {
                try one.get()
                count += 1
                if count == Self.openSessions { break }
            }
            return MemoryFigures.streams(node.roles, node.directories)
        }
        guard let during else { return }
        results.sessionMemory = SessionMemory(
            sessions: Self.openSessions, residentBefore: before.resident, resident: during.resident, proportional: during.proportional)
    }
}
