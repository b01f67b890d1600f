import CRI
import Errors
import Foundation
import GRPC

extension Benchmark {
    private static let ready = "is ready, up"
    private static let limit = Duration.seconds(90)

    /// A pod's machine, before it starts: what it is called and where its disks are.
    private struct VMPod {
        var name: String
        var pod: String
        var container: String
        var state: String
        var console: String { state + "/console.log" }
    }

    /// Pods that are virtual machines, each beside the same machine without a pod.
    mutating func measureVMs() async throws {
        guard let node = nodes.first(where: { $0.subject == .swiftlet }) as? SwiftletNode else { return }
        progress("vm: loading the image")
        try await node.loadImage(plan.smallVM, as: Workload.vmImage)
        for round in 0..<(plan.warmUpRounds + plan.rounds) {
            progress("vm: start \(round + 1) of \(plan.warmUpRounds + plan.rounds)")
            try await measureVMStart(round, counts: round >= plan.warmUpRounds, on: node)
        }
        try await measureVMExec(on: node)
        try await measureVMConsole(on: node)
    }

    /// Whose agent runs in a guest beside qemu-guest-agent.
    private enum VMAgent { case none, own }

    private mutating func makeVM(_ name: String, agent: VMAgent = .none, script: String? = nil, on node: SwiftletNode) async throws -> VMPod
    {
        let cri = try await node.cri
        var annotations = script.map { ["VirtletCloudInitUserDataScript": $0] } ?? [:]
        if agent == .none, !isAgentUnknown { annotations["swiftlet/agent"] = "none" }
        let pod: String
        do {
            pod = try await workload.runPod(name, handler: "vm", annotations: annotations, on: cri)
        } catch let error as GRPCStatus where error.code == .invalidArgument && annotations["swiftlet/agent"] != nil {
            // A daemon whose machines have no agent of Swiftlet's.
            isAgentUnknown = true
            return try await makeVM(name, agent: agent, script: script, on: node)
        }
        let container = try await workload.createVM(in: pod, podName: name, on: cri)
        guard let state = node.machineDirectory(of: container) else {
            throw SwiftletError(.notFound, "the directory of machine \(container)")
        }
        return VMPod(name: name, pod: pod, container: container, state: state)
    }

    /// QEMU, of a machine that runs.
    private func emulator(of vm: VMPod, _ node: SwiftletNode) throws -> Int32 {
        let found = ProcessTree.now().processes(of: node.directories).first {
            $0.program.hasPrefix("qemu-system") && $0.commandLine.contains(vm.state + "/")
        }
        guard let found else { throw SwiftletError(.notFound, "the QEMU of pod \(vm.name)") }
        return found.identity.pid
    }

    private func bareMachine(_ vm: VMPod, _ number: Int, _ node: SwiftletNode) throws -> RawVM {
        let directory = raw.workspace.root + "/vm"
        let arguments = EmulatorArguments(of: try emulator(of: vm, node))
        return RawVM(arguments: arguments.alone(in: directory, insteadOf: vm.state, tap: "sw-vm-\(number)"), directory: directory)
    }

    private mutating func measureVMStart(_ round: Int, counts: Bool, on node: SwiftletNode) async throws {
        let (cri, limit) = (try await node.cri, Self.limit)
        let vm = try await makeVM("vm-\(round)", on: node)
        try RawVM.copyDisks(from: vm.state, to: raw.workspace.root + "/vm")
        let console = vm.console
        async let first = SerialConsole.firstByte(of: console, within: limit)
        let start = ContinuousClock.now
        try await workload.startContainer(vm.container, on: cri)
        let call = ContinuousClock.now - start
        let time = try await first - start
        let bare = try bareMachine(vm, round, node)
        try await workload.removePod(vm.pod, on: cri)
        let rawConsole = bare.console
        let rawTime = try await bare.run { start, _ in try await SerialConsole.firstByte(of: rawConsole, within: limit) - start }
        guard counts else { return }
        results.add(.swiftlet, [(.vmFirstByte, time), (.vmStart, call)])
        results.add(.qemu, .vmFirstByte, rawTime)
    }

    private mutating func measureVMExec(on node: SwiftletNode) async throws {
        try await measureVMExec(.vmExec, agent: .none, asks: ["true"], on: node)
        guard !isAgentUnknown else { return }
        // qemu-guest-agent answers until Swiftlet's runs.
        try await measureVMExec(
            .vmExecByAgent, agent: .own, asks: ["/bin/sh", "-c", "readlink /proc/$PPID/exe | grep -q swiftlet"], on: node)
    }

    /// - Parameter asks: a command that ends with 0 as soon as whose speed is measured runs it.
    private mutating func measureVMExec(_ operation: Operation, agent: VMAgent, asks: [String], on node: SwiftletNode) async throws {
        let (cri, workload) = (try await node.cri, workload)
        progress("vm: \(operation.rawValue), and memory")
        let vm = try await makeVM("vm-exec-\(agent)", agent: agent, on: node)
        try await workload.startContainer(vm.container, on: cri)
        let log = workload.log(of: Workload.vmContainer, podName: vm.name)
        try await SerialConsole.found("pod \(vm.name) is not ready", within: Self.limit) {
            FileManager.default.contents(atPath: log)?.range(of: Data(Self.ready.utf8)).map { _ in }
        }
        let deadline = ContinuousClock.now + .seconds(60)
        while (try? await workload.exec(asks, in: vm.container, on: cri)) != 0 {
            guard ContinuousClock.now < deadline else {
                throw SwiftletError(.deadlineExceeded, "no \(operation.rawValue) in pod \(vm.name)")
            }
            try await Task.sleep(for: .milliseconds(200))
        }
        for _ in 0..<(plan.execs * 3) {
            let start = ContinuousClock.now
            let code = try await workload.execTrue(vm.container, on: cri)
            guard code == 0 else { throw SwiftletError(.internal, "true exited with \(code) in pod \(vm.name)") }
            results.add(.swiftlet, operation, ContinuousClock.now - start)
        }
        // The guest gives back what its start needed.
        try await Task.sleep(for: .seconds(5))
        var memory = MemoryFigures()
        memory.measure(node.roles, node.directories, pods: 1)
        results.vm.memory = memory.perPod - memory.sharedMemoryPerPod
        results.vm.translatedCode = ProcessMemory.translatedCode(pid: try emulator(of: vm, node))
        try await workload.removePod(vm.pod, on: cri)
    }

    /// One after the other: each has a processor of the node for itself, and another for who takes its output.
    private mutating func measureVMConsole(on node: SwiftletNode) async throws {
        guard plan.consoleBytes > 0 else { return }
        let (cri, console) = (try await node.cri, SerialConsole(bytes: plan.consoleBytes))
        progress("vm: \(console.bytes) bytes to the console of a pod")
        let vm = try await makeVM("vm-console", script: console.script, on: node)
        try RawVM.copyDisks(from: vm.state, to: raw.workspace.root + "/vm")
        try await workload.startContainer(vm.container, on: cri)
        // QEMU's arguments are read while it runs for certain.
        let bare = try bareMachine(vm, 1000, node)
        let (log, limit) = (workload.log(of: Workload.vmContainer, podName: vm.name), Duration.seconds(60 + plan.consoleBytes / 20_000))
        let pid = try emulator(of: vm, node)
        let began = try await console.begun(in: log, of: pid, within: limit) { SerialConsole.output(ofLog: Array($0)) }
        let ours = try await SerialConsole.found("the console of pod \(vm.name) has no end", within: limit) {
            FileManager.default.contents(atPath: log).flatMap { data in
                // The whole is looked at once the end is there, which may be in parts of a line.
                Data(SerialConsole.output(ofLog: Array(data.suffix(4096)))).range(of: Data("flood: ".utf8)) == nil
                    ? nil : console.outcome(in: SerialConsole.output(ofLog: Array(data)))
            }
        }
        results.vm.consoleProcessorTime = ProcessorTime.seconds(of: pid).map { $0 - began }
        try await workload.removePod(vm.pod, on: cri)
        progress("vm: \(console.bytes) bytes to the console of raw QEMU")
        let file = bare.console
        let theirs = try await bare.run { _, process in
            let pid = process.identity.pid
            let began = try await console.begun(in: file, of: pid, within: limit) { Array($0) }
            let outcome = try await SerialConsole.found("the console of raw QEMU has no end", within: limit) {
                FileManager.default.contents(atPath: file).flatMap { data in
                    data.suffix(4096).range(of: Data("flood: ".utf8)) == nil ? nil : console.outcome(in: Array(data))
                }
            }
            let used = ProcessorTime.seconds(of: pid).map { $0 - began }
            try await Task.sleep(for: .seconds(5))
            let memory = ProcessMemory(pid: pid)
            return (
                outcome: outcome, used: used, memory: memory.map { $0.proportional - $0.sharedMemory },
                code: ProcessMemory.translatedCode(pid: pid)
            )
        }
        results.vm.consoleBytes = console.bytes
        results.vm.isConsoleWhole = ours.isWhole
        (results.vm.consoleTime, results.vm.rawConsoleTime) = (ours.time, theirs.outcome.time)
        results.vm.rawConsoleProcessorTime = theirs.used
        (results.vm.rawMemory, results.vm.rawTranslatedCode) = (theirs.memory, theirs.code)
    }
}
