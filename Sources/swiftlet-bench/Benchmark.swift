import CRI
import CRIClient
import Errors
import Foundation
import Machines

/// How much is measured.
struct BenchmarkPlan: Sendable {
    var subjects: [Subject]
    var sections: Set<Section>
    /// Pods of each runtime, and raw machines, that count.
    var rounds: Int
    /// Rounds before those, whose samples are dropped.
    var warmUpRounds: Int
    /// ExecSyncs in each pod that count; one more goes before.
    var execs: Int
    /// ListContainers of each runtime at each size; a tenth as many go before.
    var lists: Int
    var fewContainers = 10
    var manyContainers: Int
    /// Execs by each protocol whose opening is timed.
    var sessions: Int
    /// Transfers of each kind.
    var transfers: Int
    /// Pods that run at once while memory is measured.
    var memoryPods: Int
    /// The disk image of pods that are virtual machines.
    var smallVM = ""
    /// Bytes that one of them writes to its console at once; 0: none.
    var consoleBytes = 10_000_000
    /// Idle pods that are up at once in the end; 0: none. They have a run of their own, without sections.
    var densityPods = 0
    /// Machines that wait, and pods that start at once.
    var poolSize = 8
    /// Starts from the pool, one after the other, that count.
    var poolRounds = 30
    /// How often as many pods as machines wait start at once.
    var poolAtOnceRounds = 3
}

/// The run: the subjects take turns, so that what else the machine does meets all of them alike.
struct Benchmark {
    let plan: BenchmarkPlan
    let workload: Workload
    let nodes: [any RuntimeNode]
    let raw: RawMachine
    /// Source of the guest that has only vsock.
    let vsockGuest: String
    var results = Measurements()
    /// swiftletd refuses to be asked for a virtual machine without its agent.
    var isAgentUnknown = false

    init(plan: BenchmarkPlan, workload: Workload, nodes: [any RuntimeNode], raw: RawMachine, vsockGuest: String) {
        self.plan = plan
        self.workload = workload
        self.nodes = nodes.filter { plan.subjects.contains($0.subject) }
        self.raw = raw
        self.vsockGuest = vsockGuest
    }

    /// Measures everything. Whatever happens, nothing runs any more afterwards.
    mutating func run() async throws {
        do {
            try await startNodes()
            if plan.sections.contains(.pods) { try await measurePods() }
            if plan.sections.contains(.memory) { try await measureMemory() }
            if plan.sections.contains(.vm) { try await measureVMs() }
            if plan.sections.contains(.logs) { try await measureLogs() }
            if plan.sections.contains(.sessions) { try await measureSessions() }
            if plan.sections.contains(.pool) { try await measureStarts() }
            if plan.sections.contains(.host) { try await measureHost() }
            if plan.densityPods > 0 { try await measureDensity(memory: raw.machine.memory) }
            // Last: what is listed stays.
            if plan.sections.contains(.lists) { try await measureLists() }
        } catch {
            await destroyNodes()
            throw error
        }
        await destroyNodes()
    }

    private mutating func startNodes() async throws {
        for node in nodes {
            progress("starting \(node.subject)")
            try await node.start()
            results.versions[node.subject] = await node.version
        }
        for node in nodes where plan.sections.contains(.memory) {
            results.memory[node.subject] = MemoryFigures(daemonIdle: MemoryFigures.daemon(node.roles, node.directories))
        }
    }

    private func destroyNodes() async {
        for node in nodes { await node.destroy() }
    }

    // MARK: Pods

    private mutating func measurePods() async throws {
        let count = plan.warmUpRounds + plan.rounds
        for round in 0..<count {
            progress("round \(round + 1) of \(count)\(round < plan.warmUpRounds ? ", not counted" : "")")
            // Each goes first as often as the others do.
            let turns = plan.subjects.indices.map { plan.subjects[($0 + round) % plan.subjects.count] }
            for subject in turns {
                let times: [(Operation, Duration)]
                if let node = nodes.first(where: { $0.subject == subject }) {
                    times = try await podLife("\(subject)-\(round)", on: node.cri)
                } else {
                    times = try await raw.boot(number: round)
                }
                if round >= plan.warmUpRounds { results.add(subject, times) }
            }
        }
    }

    /// One pod with one container, and another for a moment, from its start to its removal.
    func podLife(_ name: String, handler: String = "", on cri: CRIConnection) async throws -> [(Operation, Duration)] {
        var times: [(Operation, Duration)] = []
        func timed<Value>(_ operation: Operation?, _ work: () async throws -> Value) async throws -> Value {
            let start = ContinuousClock.now
            do {
                let value = try await work()
                if let operation { times.append((operation, ContinuousClock.now - start)) }
                return value
            } catch {
                throw SwiftletError(.unknown, "\(operation?.rawValue ?? "a call") of pod \(name)", cause: error)
            }
        }
        let pod = try await timed(.runPodSandbox) { try await workload.runPod(name, handler: handler, on: cri) }
        let container = try await timed(.createContainer) {
            try await workload.createContainer("main", in: pod, podName: name, on: cri)
        }
        try await timed(.startContainer) { try await workload.startContainer(container, on: cri) }
        for number in 0...plan.execs {
            let result = try await timed(number == 0 ? nil : .execSync) { try await workload.execTrue(container, on: cri) }
            guard result == 0 else { throw SwiftletError(.internal, "true exited with \(result) in pod \(name)") }
        }
        let further = try await timed(.createFurther) {
            try await workload.createContainer("further", in: pod, podName: name, on: cri)
        }
        try await timed(nil) { try await workload.removeContainer(further, on: cri) }
        try await timed(.stopPodSandbox) { try await workload.stopPod(pod, on: cri) }
        try await timed(nil) { try await workload.removePod(pod, on: cri) }
        return times
    }

    // MARK: Memory

    private mutating func measureMemory() async throws {
        guard plan.memoryPods > 0 else { return }
        for node in nodes {
            var pods: [String] = []
            for number in 1...plan.memoryPods {
                progress("memory: \(node.subject)'s pod \(number) of \(plan.memoryPods)")
                pods.append(try await workload.runFullPod("memory-\(number)", on: node.cri))
            }
            // Guests give back what their start needed.
            try await Task.sleep(for: .seconds(5))
            results.memory[node.subject, default: MemoryFigures()].measure(node.roles, node.directories, pods: plan.memoryPods)
            for pod in pods { try await workload.removePod(pod, on: node.cri) }
        }
    }

    // MARK: Lists

    private mutating func measureLists() async throws {
        guard plan.lists > 0 else { return }
        results.fewContainers = try await measureLists(of: plan.fewContainers, .listFew)
        results.manyContainers = try await measureLists(of: plan.manyContainers, .listMany)
    }

    /// - Returns: how many containers were listed.
    private mutating func measureLists(of wanted: Int, _ operation: Operation) async throws -> Int {
        var count = wanted
        // containerd first: it may not come as far, and both are to list the same number.
        for node in nodes.sorted(by: { ($0.subject == .containerd ? 0 : 1) < ($1.subject == .containerd ? 0 : 1) }) {
            progress("making \(count) containers for \(node.subject) to list")
            count = try await node.hold(containers: count)
        }
        progress("listing \(count) containers")
        let warmUp = plan.lists / 10 + 1
        for number in 0..<(warmUp + plan.lists) {
            for node in nodes {
                let (found, time) = try await workload.listContainers(on: node.client)
                guard found == count else {
                    throw SwiftletError(.internal, "\(node.subject) lists \(found) containers instead of \(count)")
                }
                if number >= warmUp { results.add(node.subject, operation, time) }
            }
        }
        return count
    }
}

/// Says on stderr what is being done: the table goes to stdout.
func progress(_ text: String) {
    FileHandle.standardError.write(Data("swiftlet-bench: \(text)\n".utf8))
}
