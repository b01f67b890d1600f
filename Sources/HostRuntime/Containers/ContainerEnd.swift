import Concurrency
import Errors
import Foundation
import Glibc
import Linux

/// Ends containers on the node, whatever has become of their runtime and of conmon.
enum ContainerEnd {
    /// For SIGKILL.
    private static let killLimit = Duration.seconds(10)
    /// For conmon to write the last lines and the exit code.
    private static let monitorLimit = Duration.seconds(3)
    private static let runtimeLimit = Duration.seconds(10)

    /// Kills the container's processes and takes away what runtime and kernel hold of it. Idempotent.
    static func end(_ container: String, _ document: HostContainerDocument) async throws {
        let bundle = ContainerBundle(directory: document.bundle)
        let monitorCgroup = ContainerCgroup(directories: document.monitorCgroup?.directories.map(ContainerCgroup.Directory.init) ?? [])
        let (monitor, cgroup) = try await OwnThread.run {
            let process = document.process ?? found(bundle.processFile, container)
            let monitor = document.monitor ?? found(bundle.monitorFile, container)
            var cgroup = ContainerCgroup(directories: document.cgroup)
            if cgroup.directories.isEmpty, let process, let cgroups = try? Cgroups.detect() {
                cgroup = ContainerCgroup(of: process, container: container, on: cgroups)
            }
            // Without a first process nothing has come of the runtime's create, which may still be at work, or have been killed and left a
            // child: who makes processes ends first.
            if process == nil { try monitorCgroup.end(within: killLimit) }
            process?.kill()
            try cgroup.end(within: killLimit)
            if let process, !process.waitForExit(killLimit) {
                throw SwiftletError(.unavailable, "process \(process.pid) of container \(container) does not end on SIGKILL")
            }
            // Those of exec sessions, which may wait for a client that does not read.
            SessionEnd.end(SessionDirectory.all(in: bundle).compactMap { found($0.monitorFile, container) })
            return (monitor, cgroup)
        }
        await deleteFromRuntime(container, document)
        try await OwnThread.run {
            if let monitor, !monitor.waitForExit(monitorLimit) {
                monitor.kill()
                guard monitor.waitForExit(killLimit) else {
                    throw SwiftletError(.unavailable, "conmon \(monitor.pid) of container \(container) does not end on SIGKILL")
                }
            }
            monitor?.reap()
            try monitorCgroup.end(within: killLimit)
            try cgroup.end(within: killLimit)
            try cgroup.remove()
            try document.monitorCgroup?.remove()
        }
    }

    /// The runtime forgets the container; without one that works, its state is removed: no process is left that it could be of.
    private static func deleteFromRuntime(_ container: String, _ document: HostContainerDocument) async {
        let root = document.runtimeRoot
        // A directory of runc's and crun's; files of runsc's, whose names go on.
        let state: @Sendable () -> [String] = {
            ((try? KernelFile.names(in: root)) ?? []).filter { $0.hasPrefix(container) }.map { "\(root)/\($0)" }
        }
        guard await OwnThread.answer({ !state().isEmpty }) else { return }
        let runtime = OCIRuntime(
            path: document.runtime, options: document.runtimeOptions ?? [], root: document.runtimeRoot, deadline: runtimeLimit)
        _ = try? await runtime.run(["delete", "--force", container])
        await OwnThread.answer { for path in state() { try? FileManager.default.removeItem(atPath: path) } }
    }

    /// The process that a file names, where it is of this container: its number may be another's by now.
    static func found(_ file: String, _ container: String) -> ProcessIdentity? {
        guard let text = KernelFile.text(file, limit: 32), let pid = Int32(text.filter { !$0.isWhitespace }),
            let identity = ProcessIdentity.of(pid)
        else { return nil }
        let places = [KernelFile.text("/proc/\(pid)/cgroup", limit: 8192), KernelFile.text("/proc/\(pid)/cmdline", limit: 8192)]
        guard places.contains(where: { $0?.contains(container) ?? false }), identity.isAlive else { return nil }
        return identity
    }
}
