import ArgumentParser
import CRI

struct StopCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "stop", abstract: "Stops pods or containers.")

    @OptionGroup var connection: ConnectionOptions

    @Option(name: [.short, .long], help: "Seconds between a container's stop signal and its kill.")
    var grace: UInt32 = 10

    @Argument(help: ArgumentHelp("Ids or names.", valueName: "id"))
    var ids: [String]

    func run() async throws {
        let daemon = try connection.daemon()
        let targets = try await Targets.load(from: daemon)
        // All are found before the first is stopped: a typing error stops none.
        let found = try ids.map { try targets.resolve($0) }
        let grace = grace
        try await EachTarget.run(zip(ids, found)) { name, target in
            switch target.kind {
            case .pod:
                _ = try await daemon.call(
                    RuntimeRPC.stopPodSandbox, .with { $0.podSandboxID = target.id }, "stopping pod \(name)", within: Daemon.Patience.end)
            case .container:
                _ = try await daemon.call(
                    RuntimeRPC.stopContainer,
                    .with {
                        $0.containerID = target.id
                        $0.timeout = Int64(grace)
                    }, "stopping container \(name)", within: Daemon.Patience.end + .seconds(grace))
            }
        }
    }
}

/// Does something to all targets, some at the same time; the failure of one does not spare the others.
enum EachTarget {
    /// Each may make the daemon wait for a guest and for plugins.
    private static let atOnce = 16

    /// Prints the name of each that succeeded, as it does.
    ///
    /// - Throws: `ExitCode` 1 when one failed, after saying which on standard error.
    static func run(
        _ targets: some Sequence<(String, Target)>, _ action: @escaping @Sendable (String, Target) async throws -> Void
    ) async throws {
        let failed = await withTaskGroup(of: Bool.self) { group in
            var (waiting, failed) = (Array(targets)[...], false)
            func next() {
                guard let (name, target) = waiting.popFirst() else { return }
                group.addTask { await perform(name, target, action) }
            }
            for _ in 0..<atOnce { next() }
            for await succeeded in group {
                if !succeeded { failed = true }
                next()
            }
            return failed
        }
        if failed { throw ExitCode.failure }
    }

    private static func perform(
        _ name: String, _ target: Target, _ action: @Sendable (String, Target) async throws -> Void
    ) async -> Bool {
        do {
            try await action(name, target)
            Terminal.output(name + "\n")
            return true
        } catch {
            Terminal.error("swiftlet: \(Terminal.oneLine("\(error)"))\n")
            return false
        }
    }
}
