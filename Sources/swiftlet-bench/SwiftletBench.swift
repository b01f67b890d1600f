import ArgumentParser
import Errors
import Foundation
import Glibc
import Logging
import Machines
import SwiftletVersion

extension AcceleratorProbe.Choice: ExpressibleByArgument {}

/// Measures swiftletd against containerd with runc, and against QEMU without a runtime.
@main
struct SwiftletBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "swiftlet-bench",
        abstract: "Measures swiftletd against containerd with runc, and against raw QEMU.",
        discussion: "Needs root and namespaces of its own: start it by scripts/bench.",
        version: swiftletVersion)

    @Option(help: "The directory with vmlinuz, initramfs.img and samples.tar.")
    var guest: String

    @Option(help: "The directory with swiftletd and swiftlet-vsockd; by default this program's own.")
    var programs: String?

    @Option(help: "The agent's binary, for its size.")
    var agent = ".build-agent/release/swiftlet-agent"

    @Option(help: "Source of the guest that shows what vsock itself carries.")
    var vsockGuest = "Tests/VsockGuest/vsock_guest.c"

    @Option(help: "The small virtual machine's disk (make samples).")
    var smallVM = ".build/samples/small-vm.qcow2"

    @Option(help: "Bytes that a virtual machine writes to its console at once, a multiple of 100; 0: none.")
    var consoleBytes = 10_000_000

    @Option(help: "The Markdown file to write, beside stdout.")
    var output: String?

    @Option(help: "What to measure: swiftlet, containerd, qemu; by default all.")
    var only: [Subject] = []

    @Option(help: "The part to measure, several by repetition: pods, memory, lists, pool, logs, sessions, vm, host; by default all.")
    var section: [Section] = []

    @Option(help: "auto boots a probe guest once; kvm; tcg.")
    var accelerator = AcceleratorProbe.Choice.auto

    @Option(help: "Pods of each runtime, and raw machines, to measure.")
    var rounds = 12

    @Option(help: "Rounds before those whose samples are dropped.")
    var warmUp = 1

    @Option(help: "ExecSyncs in each pod.")
    var execs = 10

    @Option(help: "ListContainers of each runtime at each size; 0: none.")
    var lists = 50

    @Option(help: "Containers in the long list.")
    var containers = 1000

    @Option(help: "Pods at once while memory is measured; 0: none.")
    var pods = 10

    @Option(help: "Machines that wait for pods, and pods that start at once.")
    var poolSize = 8

    @Option(help: "Starts from the pool to measure, one after the other.")
    var poolRounds = 30

    @Option(help: "How often as many pods as machines wait start at once.")
    var poolAtOnce = 3

    @Option(help: "Execs by SPDY and by WebSocket each whose opening is timed.")
    var sessions = 100

    @Option(help: "Transfers of 100 MB of each kind.")
    var transfers = 3

    @Option(help: "Idle pods of 128 MiB to have up at once, instead of all other measurements; --output keeps the rest of the page.")
    var density = 0

    func validate() throws {
        guard (0...1000).contains(density) else { throw ValidationError("--density is from 0 to 1000.") }
        guard rounds > 0, warmUp >= 0, execs > 0, lists >= 0, pods >= 0, sessions > 0, transfers > 0, containers >= 10,
            consoleBytes >= 0, poolSize > 0, poolRounds > 0, poolAtOnce >= 0, consoleBytes % 100 == 0
        else {
            throw ValidationError("Counts must be positive, --containers at least 10, and --console-bytes a multiple of 100.")
        }
    }

    func run() async throws {
        signal(SIGPIPE, SIG_IGN)
        let workspace = Workspace()
        do {
            try Self.checkNamespaces()
            let report = try await measure(workspace)
            workspace.remove()
            let text = density > 0 ? report.densitySection : report.markdown
            print(text, terminator: "")
            if let output {
                try page(text, over: output).write(toFile: output, atomically: true, encoding: .utf8)
                let beside = URL(fileURLWithPath: output).deletingLastPathComponent()
                if density > 0 {
                    try Data(await report.results.density.plot.svg().utf8).write(to: beside.appending(path: DensitySection.plot))
                }
            }
        } catch {
            workspace.remove()
            progress("\(error)")
            throw ExitCode.failure
        }
    }

    /// What the file is to hold.
    private func page(_ report: String, over file: String) -> String {
        let old = (try? String(contentsOfFile: file, encoding: .utf8)) ?? ""
        return density > 0 ? DensitySection.put(report, into: old) : DensitySection.keep(of: old, in: report)
    }

    private func measure(_ workspace: Workspace) async throws -> Report {
        let files = try GuestFiles(directory: guest)
        let conditions = await RunConditions.now(guest: files)
        try workspace.create()
        var logger = Logger(label: "swiftlet-bench") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = .warning
        let verdict = await AcceleratorProbe(
            choice: accelerator, kernel: files.kernel, cacheFile: workspace.root + "/accelerator.json"
        ).verdict(logger: logger)
        let machine = MachineShape(accelerator: verdict, memory: density > 0 ? 128 : 256)
        let programs = programs ?? Self.ownDirectory
        let workload = Workload(logs: workspace.logs, programs: workspace.programs, cgroup: workspace.cgroup)
        var plan = BenchmarkPlan(
            subjects: Subject.allCases.filter { only.isEmpty || only.contains($0) },
            sections: Set(section.isEmpty ? Section.allCases : section), rounds: rounds, warmUpRounds: warmUp, execs: execs,
            lists: lists, manyContainers: containers, sessions: sessions, transfers: transfers, memoryPods: pods,
            smallVM: URL(fileURLWithPath: smallVM).standardizedFileURL.path, consoleBytes: consoleBytes,
            poolSize: poolSize, poolRounds: poolRounds, poolAtOnceRounds: poolAtOnce)
        if density > 0 { (plan.subjects, plan.sections, plan.densityPods) = ([.swiftlet], [], density) }
        var benchmark = Benchmark(
            plan: plan, workload: workload,
            nodes: [
                ContainerdNode(workspace: workspace, sampleArchive: files.samples, workload: workload),
                SwiftletNode(workspace: workspace, programs: programs, guest: files, machine: machine, workload: workload),
            ],
            raw: RawMachine(
                workspace: workspace, vsockBackend: VsockBackend(binary: programs + "/swiftlet-vsockd"), guest: files, machine: machine),
            vsockGuest: vsockGuest)
        try await benchmark.run()
        return Report(
            results: benchmark.results, plan: plan, machine: machine, conditions: conditions,
            sizes: GuestSizes(agent: agent, guest: files), command: CommandLine.arguments.joined(separator: " ")
        )
    }

    /// Pods' addresses must never exist in the machine's own network, nor processes outlive the run.
    private static func checkNamespaces() throws {
        var (own, made) = (stat(), stat())
        guard stat("/proc/self/ns/net", &own) == 0, stat("/run/netns/swiftlet-bench", &made) == 0, own.st_ino == made.st_ino, getppid() == 1
        else { throw SwiftletError(.failedPrecondition, "the benchmark runs in namespaces of its own; use scripts/bench") }
    }

    private static var ownDirectory: String {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
        return URL(fileURLWithPath: own).deletingLastPathComponent().path
    }
}
