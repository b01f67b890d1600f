import CRI
import Errors
import Foundation
import GRPC
import Linux

/// What many idle pods cost together.
struct DensityFigures: Sendable {
    /// With so many pods up.
    struct Step: Sendable {
        var pods: Int
        /// Of the pods since the step before: from RunPodSandbox to the container's start.
        var starts = Samples()
        var podList = Samples()
        var containerList = Samples()
        /// Proportional bytes of swiftletd, with its reaper.
        var daemon: UInt64 = 0
        /// Of the processes of all pods together.
        var machines: UInt64 = 0
        /// Of those, the guests' RAM as far as they have touched it.
        var guestMemory: UInt64 = 0
        /// Of those, code that the emulator has translated: under KVM there is none.
        var translatedCode: UInt64 = 0
        /// Seconds of the processor that the pods' processes took in a second, and swiftletd did.
        var machinesProcessor = 0.0
        var daemonProcessor = 0.0
    }

    /// MiB of RAM of each guest.
    var memory = 0
    var steps: [Step] = []
    /// Why the last steps were not reached.
    var failure: String?
}

extension Benchmark {
    /// Numbers of pods at which is measured; the last is the most.
    static func densitySteps(most: Int) -> [Int] { [1, 10, 50, 100].filter { $0 < most } + [most] }

    private static let lists = 30
    /// From the last pod's start: guests load their last modules after 3 s, and give back what their start needed.
    private static let settling = Duration.seconds(12)
    private static let watched = Duration.seconds(10)
    /// Bytes that a pod takes beside its guest's RAM, most of which an idle guest of 128 MiB has touched: ten of them take 189 MiB each.
    private static let leastRoom: UInt64 = 72 << 20

    mutating func measureDensity(memory: Int) async throws {
        guard let node = nodes.first(where: { $0.subject == .swiftlet }) else { return }
        let needed = UInt64(plan.densityPods) * (UInt64(memory) << 20 + Self.leastRoom)
        guard let available = Self.availableMemory(), available >= needed else {
            throw SwiftletError(.resourceExhausted, "\(plan.densityPods) pods may need \(needed >> 20) MiB, which are not available")
        }
        results.density.memory = memory
        var pods: [String] = []
        for wanted in Self.densitySteps(most: plan.densityPods) {
            do {
                var starts = Samples()
                while pods.count < wanted {
                    progress("density: pod \(pods.count + 1) of \(plan.densityPods)")
                    let begin = ContinuousClock.now
                    pods.append(try await workload.runFullPod("density-\(pods.count + 1)", on: node.cri))
                    starts.add(begin.duration(to: .now))
                }
                try await Task.sleep(for: Self.settling)
                var step = try await look(at: node, pods: wanted)
                step.starts = starts
                results.density.steps.append(step)
            } catch {
                // What fewer pods cost is known by then.
                guard !results.density.steps.isEmpty else { throw error }
                results.density.failure = "with \(pods.count) pods up: \(error)"
                progress("density: \(results.density.failure ?? "")")
                break
            }
        }
        for pod in pods { try await workload.removePod(pod, on: node.cri) }
    }

    private func look(at node: any RuntimeNode, pods: Int) async throws -> DensityFigures.Step {
        var step = DensityFigures.Step(pods: pods)
        let roles = node.roles
        let before = ProcessorTime.now(below: node.directories)
        let start = ContinuousClock.now
        try await Task.sleep(for: Self.watched)
        let seconds = (ContinuousClock.now - start).milliseconds / 1000
        for (program, time) in ProcessorTime.now(below: node.directories).since(before) {
            if program == roles.daemon {
                step.daemonProcessor += time / seconds
            } else if program != roles.streams {
                step.machinesProcessor += time / seconds
            }
        }
        for entry in ProcessTree.now().processes(of: node.directories) where entry.program != roles.streams {
            guard let memory = ProcessMemory(pid: entry.identity.pid) else { continue }
            if entry.program == roles.daemon {
                step.daemon += memory.proportional
            } else {
                step.machines += memory.proportional
                step.guestMemory += memory.sharedMemory
                step.translatedCode += ProcessMemory.translatedCode(pid: entry.identity.pid)
            }
        }
        for number in 0..<(Self.lists + 3) {
            let (found, time) = try await workload.listContainers(on: node.client)
            guard found == pods else { throw SwiftletError(.internal, "\(found) containers are listed instead of \(pods)") }
            let begin = ContinuousClock.now
            _ = try await node.client.unary(RuntimeRPC.listPodSandbox.path(), [], timeout: .seconds(60))
            guard number >= 3 else { continue }
            step.podList.add(ContinuousClock.now - begin)
            step.containerList.add(time)
        }
        return step
    }

    private static func availableMemory() -> UInt64? {
        let line = (KernelFile.text("/proc/meminfo") ?? "").split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
        return line?.split(separator: " ").dropFirst().first.flatMap { UInt64($0) }.map { $0 << 10 }
    }
}
