import Concurrency
import Errors
import Glibc
import Linux
import Runtime

extension HostSandbox {
    func statistics(openFiles: Bool, containers: Int) async throws -> SandboxFigures {
        let (records, names, path) = (records.filter { $0.phase == .started && $0.end == nil }, names, context.network.namespacePath)
        let pause = pause?.group
        var figures = try await OwnThread.run {
            try SandboxFigures.with { figures in
                figures.containers = records.map { Self.figures(of: $0, names, openFiles: openFiles) }
                figures.pod = figures.containers.reduce(into: CgroupUsage()) { $0.add($1.cgroup) }
                if let pause { figures.pod.add(pause.usage) }
                var disk = statvfs()
                guard statvfs(names.stateDirectory, &disk) == 0 else { throw SwiftletError.system("look at \(names.stateDirectory)") }
                figures.scratch = .with {
                    $0.totalBytes = UInt64(disk.f_blocks) * UInt64(disk.f_frsize)
                    $0.availableBytes = UInt64(disk.f_bavail) * UInt64(disk.f_frsize)
                    ($0.totalInodes, $0.freeInodes) = (UInt64(disk.f_files), UInt64(disk.f_ffree))
                }
                let memory = NodeFigures.memory()
                (figures.memoryTotalBytes, figures.memoryAvailableBytes) = memory
            }
        }
        if let path { figures.interfaces = try await NetworkNamespace.run(in: path) { NodeFigures.interfaces() } }
        return figures
    }

    private static func figures(of record: HostRecord, _ names: HostNames, openFiles: Bool) -> ContainerFigures {
        .with {
            $0.containerID = record.container
            let cgroup = ContainerCgroup(directories: record.cgroup)
            $0.cgroup = cgroup.usage
            $0.writableLayer = DirectorySize.measure("\(names.writableLayer(record.container))/upper")
            let processes = cgroup.processes
            $0.processes.processes = UInt64(processes.count)
            guard openFiles else { return }
            for pid in processes { $0.processes.openFiles += UInt64((try? KernelFile.names(in: "/proc/\(pid)/fd").count) ?? 0) }
        }
    }
}

extension CgroupUsage {
    fileprivate mutating func add(_ other: CgroupUsage) {
        cpu.usageUs += other.cpu.usageUs
        cpu.userUs += other.cpu.userUs
        cpu.systemUs += other.cpu.systemUs
        memory.usageBytes += other.memory.usageBytes
        memory.anonymousBytes += other.memory.anonymousBytes
        memory.fileBytes += other.memory.fileBytes
        memory.inactiveFileBytes += other.memory.inactiveFileBytes
        memory.mappedFileBytes += other.memory.mappedFileBytes
        memory.swapBytes += other.memory.swapBytes
        memory.pageFaults += other.memory.pageFaults
        memory.majorPageFaults += other.memory.majorPageFaults
        memory.oomKills += other.memory.oomKills
        threads += other.threads
    }
}
