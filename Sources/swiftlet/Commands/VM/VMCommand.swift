import ArgumentParser

struct VMCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vm", abstract: "Looks after pods that are virtual machines (runtime handler vm).",
        discussion: "A machine is named by its pod or by its container. What needs a machine that runs fails with 1 where it does not.",
        subcommands: [
            VMListCommand.self, VMConsoleCommand.self, VMVNCCommand.self, VMSSHCommand.self, VMResetCommand.self, VMRebootCommand.self,
            VMPauseCommand.self, VMResumeCommand.self, VMDumpXMLCommand.self, VMDiskCommand.self,
        ])
}
