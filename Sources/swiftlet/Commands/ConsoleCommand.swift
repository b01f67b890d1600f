import ArgumentParser
import CRI
import Errors
import FoundationEssentials
import Glibc

struct ConsoleCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "console", abstract: "Prints what a pod's machine wrote to its serial console.",
        discussion: """
            These are messages of the guest's kernel and agent, the last MiB of them at most; a guest that is well says nothing, and nobody \
            can log in there. \
            On a terminal, control characters are shown as "?".
            """)

    @OptionGroup var connection: ConnectionOptions

    @Flag(name: [.short, .long], help: "Go on until the pod stops.")
    var follow = false

    @Argument(help: "Id or name of a pod.")
    var pod: String

    func run() async throws {
        let daemon = try connection.daemon()
        let id = try await Targets.load(from: daemon).resolve(pod, as: .pod).id
        let reader = try ConsoleReader(path: try await PodConsole(of: id, daemon, named: pod).path)
        let output = ConsoleOutput(isTerminal: isatty(STDOUT_FILENO) == 1)
        guard follow else { return try await reader.readOnce { output.write($0) } }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await reader.follow { output.write($0) } }
            group.addTask {
                // However the watch ends, the console is read to its end first.
                defer { reader.finish() }
                try await PodConsole.end(of: id, daemon)
            }
            try await group.waitForAll()
        }
    }
}

/// Where a pod's console is kept on the node.
private struct PodConsole {
    private struct Details: Decodable {
        var console: String?
    }

    let path: String

    /// - Throws: `SwiftletError` `notFound` for a pod without one, as all that have stopped are.
    init(of id: String, _ daemon: Daemon, named name: String) async throws {
        let request = CRIPodSandboxStatusRequest.with { ($0.podSandboxID, $0.verbose) = (id, true) }
        let answer = try await daemon.call(RuntimeRPC.podSandboxStatus, request, "asking for pod \(Units.short(id))")
        guard answer.status.state == .sandboxReady else {
            throw SwiftletError(.notFound, "\(name): the pod has stopped, and its console is gone")
        }
        let details = try? JSONDecoder().decode(Details.self, from: Data((answer.info["info"] ?? "{}").utf8))
        guard let console = details?.console, console.hasPrefix("/") else {
            throw SwiftletError(.notFound, "\(name): the pod has no console")
        }
        path = console
    }

    /// Returns when the pod is no longer ready, or gone.
    static func end(of id: String, _ daemon: Daemon) async throws {
        while true {
            do {
                let request = CRIPodSandboxStatusRequest.with { $0.podSandboxID = id }
                let answer = try await daemon.call(RuntimeRPC.podSandboxStatus, request, "asking for pod \(Units.short(id))")
                guard answer.status.state == .sandboxReady else { return }
            } catch let error as SwiftletError where error.code == .notFound {
                return
            }
            try await Task.sleep(for: .milliseconds(500))
        }
    }
}
