import Concurrency
import Errors
import Glibc
import Linux
import Runtime

extension HostHandler {
    /// Makes the PID namespace that the pod's containers share: its first process, and where it is bound.
    ///
    /// Killed at any moment in it, the daemon leaves a process that ends by itself, or one that the ledger knows.
    func startPause(_ context: SandboxContext, _ names: HostNames) async throws -> PauseDocument {
        let (spec, program, limit) = (context.spec, pause, configuration.runtimeDeadline)
        let (usesSystemd, network) = (configuration.usesSystemd, context.network.namespacePath)
        let cgroup = try await OwnThread.run {
            try ProcessCgroup.serving(
                spec, "pause-\(names.pod.prefix(13))", usesSystemd: usesSystemd, on: try Cgroups.detect())
        }
        let planned = PauseDocument(cgroup: cgroup)
        let waiting = try await context.ledger.acquire(.hostPause, context.id, planned) {
            try await OwnThread.run {
                try planned.write(names.pauseFile)
                try cgroup.create()
                var start = PauseProcess(program: program, directory: names.runDirectory, networkNamespace: network)
                for kind in PinnedNamespace.free where kind.isNeeded(by: spec) { start.joined[kind] = names.namespace(kind) }
                return try start.launch { try cgroup.place($0) }
            }
        }
        let document = PauseDocument(process: waiting.process, cgroup: cgroup)
        do {
            try await context.ledger.note(.hostPause, context.id, document)
            try await OwnThread.run {
                try document.write(names.pauseFile)
                try waiting.begin(within: limit)
            }
        } catch {
            await OwnThread.answer { waiting.abandon() }
            throw error
        }
        let path = names.namespace(.pid)
        try await context.ledger.acquire(.hostNamespace, path) {
            try await OwnThread.run { try PinnedNamespace.pid.bind(of: waiting.process, at: path) }
        }
        return document
    }

    /// - Throws: `.notFound` when the namespace has ended with its first process.
    func reattachedPause(_ context: SandboxContext) async throws -> PauseDocument? {
        guard context.spec.sharesPidNamespace else { return nil }
        let document = try context.ledger.entry(.hostPause)?.decoded(PauseDocument.self)
        guard let document, await OwnThread.answer({ document.process?.isAlive ?? false }) else {
            throw SwiftletError(.notFound, "the first process of the PID namespace that the pod's containers share has ended")
        }
        return document
    }
}

extension PauseDocument {
    /// What an earlier daemon has written of a pod; nil: nothing. Blocks.
    static func found(_ path: String) throws -> PauseDocument? {
        do {
            return try read(path)
        } catch let error as SwiftletError where error.code == .notFound {
            return nil
        }
    }
}
