import AgentProtocol
import Errors
import Glibc

/// What the whole pod uses, read from the guest's kernel in one go.
struct PodStatistics: Sendable {
    let layers: LayerSizes

    /// - Parameter podCgroup: the one above the containers' own.
    func read(
        _ request: AgentGetStatsRequest, containers: [ContainerRecord], podCgroup: String, scratchDirectory: String
    ) -> AgentGetStatsResponse {
        layers.keep(Set(containers.map(\.id)))
        return .with {
            $0.pod = CgroupFiles(path: podCgroup).stats
            $0.containers = containers.map { container in
                read(
                    container, cgroup: "\(podCgroup)/\(container.id)", layer: "\(scratchDirectory)/containers/\(container.id)/upper",
                    openFiles: request.openFiles)
            }
            $0.interfaces = InterfaceCounters.read()
            $0.scratch = Self.disk(scratchDirectory)
            let memory = Self.memory()
            $0.memoryTotalBytes = memory.total
            $0.memoryAvailableBytes = memory.available
        }
    }

    /// Of a guest that is not the agent's own: without control groups, which are the guest's affair.
    func read(guest: String) -> AgentGetStatsResponse {
        .with {
            $0.containers = [.with { $0.containerID = guest }]
            $0.interfaces = InterfaceCounters.read()
            $0.scratch = Self.disk("/")
            let memory = Self.memory()
            $0.memoryTotalBytes = memory.total
            $0.memoryAvailableBytes = memory.available
        }
    }

    private func read(_ container: ContainerRecord, cgroup: String, layer: String, openFiles: Bool) -> AgentContainerStats {
        .with {
            $0.containerID = container.id
            $0.cgroup = CgroupFiles(path: cgroup).stats
            if let size = layers.size(of: container.id, layer) { $0.writableLayer = size }
            let counter = ProcessCounter(cgroup: cgroup)
            $0.processes.processes = UInt64(counter.processes.count)
            guard openFiles else { return }
            ($0.processes.openFiles, $0.processes.sockets) = counter.openFiles()
            if let limit = container.first.runningPid.flatMap(Self.openFilesLimit) { $0.processes.openFilesLimit = limit }
        }
    }

    /// Nil for a process without a limit or without a life.
    private static func openFilesLimit(_ process: pid_t) -> UInt64? {
        // "Max open files            1024                 524288               files" (proc(5)).
        let name = "Max open files"
        let line = Files.text("/proc/\(process)/limits", limit: 4096)?.split(separator: "\n").first { $0.hasPrefix(name) }
        return line?.dropFirst(name.count).split(separator: " ").first.flatMap { UInt64($0) }
    }

    private static func disk(_ directory: String) -> AgentDiskStats {
        var status = statvfs()
        guard statvfs(directory, &status) == 0 else { return AgentDiskStats() }
        return .with {
            $0.totalBytes = UInt64(status.f_blocks) * UInt64(status.f_frsize)
            $0.availableBytes = UInt64(status.f_bavail) * UInt64(status.f_frsize)
            $0.totalInodes = UInt64(status.f_files)
            $0.freeInodes = UInt64(status.f_ffree)
        }
    }

    /// Lines as "MemTotal:  123456 kB" (proc(5)).
    private static func memory() -> (total: UInt64, available: UInt64) {
        var (total, available): (UInt64, UInt64) = (0, 0)
        for line in Files.text("/proc/meminfo", limit: 8192)?.split(separator: "\n") ?? [] {
            let words = line.split(separator: " ")
            guard words.count > 1, let kilobytes = UInt64(words[1]) else { continue }
            if words[0] == "MemTotal:" { total = kilobytes * 1024 }
            if words[0] == "MemAvailable:" { available = kilobytes * 1024 }
        }
        return (total, available)
    }
}

extension AgentService {
    @Sendable func getStats(_ request: AgentGetStatsRequest) throws(SwiftletError) -> AgentGetStatsResponse {
        guard dependencies.guest == nil else { return statistics.read(guest: AgentContract.guestContainer) }
        let environment = try sandbox.environment()
        return statistics.read(
            request, containers: containers.all, podCgroup: try environment.shared.containersCgroup(),
            scratchDirectory: environment.scratchDirectory)
    }
}
