import Concurrency
import Errors
import Glibc
import Linux

/// Ends what an exec session has started, when the session has ended, and lets go what conmon waits for when the process has.
struct SessionEnd: Sendable {
    let directory: SessionDirectory
    let container: String
    let cgroup: ContainerCgroup
    /// The container's first process.
    let first: ProcessIdentity?

    init(directory: SessionDirectory, container: String, cgroup: ContainerCgroup, first: ProcessIdentity?) {
        (self.directory, self.container, self.cgroup, self.first) = (directory, container, cgroup, first)
    }

    init(_ directory: SessionDirectory, _ record: HostRecord) {
        self.init(
            directory: directory, container: record.container, cgroup: ContainerCgroup(directories: record.cgroup), first: record.process)
    }

    /// For a process's children that hold its output open, before they are killed.
    private static let childrenPatience = Duration.milliseconds(200)
    /// For conmon to write the exit code.
    private static let monitorPatience = Duration.seconds(2)

    /// Returns when nothing is left of it.
    ///
    /// - Parameters: those that are known; the others are found by their files.
    func follow(_ knownProcess: ProcessIdentity? = nil, _ knownMonitor: ProcessIdentity? = nil) async {
        let (process, monitor) = await OwnThread.answer { [self] in
            (
                knownProcess ?? ContainerEnd.found(directory.processFile, container),
                knownMonitor ?? ContainerEnd.found(directory.monitorFile, container)
            )
        }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await SessionPipe(path: directory.sessionPipe).hasEnded() }
            group.addTask { await letGo(process, monitor) }
            await group.next()
            // What conmon has noted is there until the session has read it.
            if !(await OwnThread.answer { [self] in SessionPipe(path: directory.sessionPipe).isRead }) { group.cancelAll() }
            await group.waitForAll()
        }
        await OwnThread.answer { [self] in
            killGroup(process)
            Self.end([monitor].compactMap(\.self))
            directory.remove()
        }
    }

    /// When the process has ended: conmon drains the output, also into a session whose client takes its time, and only then takes note of
    /// the end.
    private func letGo(_ process: ProcessIdentity?, _ monitor: ProcessIdentity?) async {
        guard let monitor, await process?.hasEnded() ?? true else { return }
        guard (try? await withTimeout(Self.childrenPatience, "conmon") { await monitor.hasEnded() }) == nil else { return }
        await OwnThread.answer { [self] in killGroup(process) }
        while await OwnThread.answer({ monitor.isAlive }) {
            // A PID namespace ends when all of its processes have been taken note of.
            if let first, await OwnThread.answer({ Self.isEnding(first) }) {
                return await OwnThread.answer { Self.end([monitor]) }
            }
            do { try await Task.sleep(for: .milliseconds(500)) } catch { return }
        }
    }

    /// PF_EXITING of the kernel's sched.h, in field 9 of /proc/PID/stat.
    private static let exiting = 4

    static func isEnding(_ process: ProcessIdentity) -> Bool {
        guard process.isAlive, let line = KernelFile.text("/proc/\(process.pid)/stat", limit: 4096), let name = line.lastIndex(of: ")")
        else { return true }
        let fields = line[line.index(after: name)...].split(separator: " ")
        return fields.count > 6 && (Int(fields[6]) ?? 0) & exiting != 0
    }

    /// Kills the process with its group, as other pods' are. Blocks.
    private func killGroup(_ process: ProcessIdentity?) {
        // A runtime that was just starting it may have noted it since.
        guard let process = process ?? ContainerEnd.found(directory.processFile, container) else { return }
        process.kill()
        for pid in cgroup.processes where getpgid(pid) == process.pid { ProcessIdentity.of(pid)?.kill() }
    }

    /// Waits for conmons whose processes have ended; those that wait for a client that does not read are killed. Blocks.
    static func end(_ monitors: [ProcessIdentity]) {
        let deadline = ContinuousClock.now + monitorPatience
        for monitor in monitors {
            if !monitor.waitForExit(max(.zero, ContinuousClock.now.duration(to: deadline))) {
                monitor.kill()
                _ = monitor.waitForExit(monitorPatience)
            }
            monitor.reap()
        }
    }
}
