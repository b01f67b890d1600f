import Concurrency
import Errors
import Foundation
import Glibc
import Linux
import Runtime

extension HostSandbox {
    /// Of one output: what is more is dropped, as an allowance would.
    private static let outputLimit = 16 << 20
    /// Beside the time that the process has.
    private static let margin = Duration.seconds(15)
    /// Without a limit of its own: a century, as ``withDeadline``.
    private static let endless = Duration.seconds(100 * 365 * 86400)

    func execute(_ id: String, _ command: [String], timeout: Duration?, output: OutputAllowance) async throws -> ExecResult {
        let bundle = names.bundle(id)
        let file = "\(bundle.directory)/exec-\(UUID().uuidString.lowercased())"
        let (specFile, processFile) = ("\(file).json", "\(file).pid")
        defer {
            unlink(specFile)
            unlink(processFile)
        }
        try Task.checkCancellation()
        try await OwnThread.run { try Self.write(command, terminal: false, bundle, to: specFile) }
        let runtime = handler.runtime
        var spawn = Spawn(
            runtime.path, runtime.globalArguments + ["exec", "--process", specFile, "--pid-file", processFile, id],
            deadline: (timeout ?? Self.endless) + Self.margin, outputLimit: Self.outputLimit)
        // Counted as it comes: a command may write without end.
        spawn.admit = { try output.take($0) }
        let work = Task { [spawn] in try await spawn.run() }
        let result: Spawn.Result
        do {
            result = try await withTaskCancellationHandler {
                guard let timeout else { return try await work.value }
                return try await withDeadline(timeout, "exec in container \(id)") { try await work.value }
            } onCancel: {
                Task { await Self.end(work, processFile, id) }
            }
        } catch {
            await Self.end(work, processFile, id)
            throw error
        }
        try Task.checkCancellation()
        if let failure = Self.failure(result, processFile, id) { throw failure }
        return ExecResult(stdout: result.output, stderr: result.errorOutput, exitCode: result.status, isCut: result.truncated)
    }

    /// config.json's process with another command.
    static func write(
        _ command: [String], terminal: Bool, size: InitialTerminalSize? = nil, _ bundle: ContainerBundle, to path: String
    ) throws {
        do {
            let config = try JSONDecoder().decode(RuntimeSpec.self, from: Data(contentsOf: URL(fileURLWithPath: bundle.config)))
            var process = config.process
            (process.args, process.terminal) = (command, terminal)
            process.consoleSize = terminal ? size.map { RuntimeSpec.ConsoleSize(height: $0.height, width: $0.width) } : nil
            // As other runtimes do.
            if terminal, !process.env.contains(where: { $0.hasPrefix("TERM=") }) { process.env.append("TERM=xterm") }
            try JSONEncoder.bundle.encode(process).write(to: URL(fileURLWithPath: path))
        } catch {
            throw SwiftletError(.internal, "exec: the bundle \(bundle.directory) cannot be read", cause: error)
        }
    }

    /// A runtime that started no process has written no number of one.
    private static func failure(_ result: Spawn.Result, _ processFile: String, _ id: String) -> SwiftletError? {
        guard !result.succeeded, access(processFile, F_OK) != 0 else { return nil }
        return OCIRuntime.failure(said: result.errorText, "exec in container \(id)")
    }

    /// From one look for the process to the next.
    private static let look = Duration.milliseconds(50)

    /// Kills the process, which is not the runtime's own, also one that the runtime has not started yet; returns when the runtime has ended.
    private static func end(_ work: Task<Spawn.Result, any Error>, _ processFile: String, _ id: String) async {
        await kill(processFile, id)
        let killer = Task {
            while (try? await Task.sleep(for: look)) != nil { await kill(processFile, id) }
        }
        _ = try? await work.value
        killer.cancel()
    }

    private static func kill(_ processFile: String, _ id: String) async {
        await OwnThread.answer { ContainerEnd.found(processFile, id)?.kill() }
    }

    func updateContainer(_ id: String, from old: LinuxResources, to new: LinuxResources) async throws {
        let record = try record(id)
        guard record.phase != .created else {
            // The bundle has not been read yet.
            let path = names.bundle(id).config
            return try await OwnThread.run {
                var config = try JSONDecoder().decode(RuntimeSpec.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
                let devices = config.linux.resources.devices
                config.linux.resources = RuntimeSpec.resources(new)
                config.linux.resources.devices = devices
                try JSONEncoder.bundle.encode(config).write(to: URL(fileURLWithPath: path))
            }
        }
        let limits = [UInt8](try JSONEncoder.bundle.encode(RuntimeSpec.resources(new)))
        try await handler.runtime.run(["update", "--resources", "-", id], input: limits)
    }
}
