import ArgumentParser
import CRI

/// What all commands have that do one thing to machines.
struct VMControlOptions: ParsableArguments {
    @OptionGroup var connection: ConnectionOptions

    @Argument(help: ArgumentHelp("Ids or names of pods or containers.", valueName: "vm"))
    var machines: [String]

    /// Prints the name of each machine as it succeeds.
    ///
    /// - Parameters:
    ///   - step: "pausing".
    ///   - patience: for each.
    func control(
        _ action: OperatorControlMachineRequest.Action, _ step: String, within patience: Duration = Daemon.Patience.end
    ) async throws {
        let daemon = try connection.daemon()
        let targets = try await Targets.load(from: daemon)
        // All are found before anything is done: a typing error stops none.
        let found = try machines.map { try targets.resolve($0) }
        try await EachTarget.run(zip(machines, found)) { name, target in
            _ = try await daemon.call(
                OperatorRPC.controlMachine,
                .with {
                    $0.id = target.id
                    $0.action = action
                }, "\(step) \(name)", within: patience)
        }
    }
}

struct VMResetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reset", abstract: "Presses machines' reset buttons: they boot again at once, and the guest is not asked.",
        discussion: "The container stays the same and its log goes on. What the guest had not written is lost.")

    @OptionGroup var options: VMControlOptions

    func run() async throws { try await options.control(.reset, "resetting") }
}

struct VMRebootCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reboot", abstract: "Has guests shut themselves down and boots them again.",
        discussion: """
            By the power button (ACPI), which is pressed again while the guest does not react: one that is booting misses it. Returns when \
            the guest boots again, and fails when it does not in time (--timeout); it goes on then, see vm reset. With the annotation \
            swiftlet/reboot: exit the container ends.
            """)

    @OptionGroup var options: VMControlOptions

    func run() async throws { try await options.control(.reboot, "rebooting", within: Daemon.Patience.start) }
}

struct VMPauseCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pause", abstract: "Stops machines' vCPUs until vm resume.",
        discussion: """
            The container stays running, and the pod says why it stands still: in its verbose status and in the node's condition \
            PodsRunning. Probes fail meanwhile: a liveness probe has the kubelet restart the container. A restart of swiftletd changes \
            nothing. Stop and rm end a paused machine.
            """)

    @OptionGroup var options: VMControlOptions

    func run() async throws { try await options.control(.pause, "pausing") }
}

struct VMResumeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume", abstract: "Lets machines go on that vm pause has stopped.",
        discussion: "One whose disk has no room on the node goes on when there is.")

    @OptionGroup var options: VMControlOptions

    func run() async throws { try await options.control(.resume, "resuming") }
}
