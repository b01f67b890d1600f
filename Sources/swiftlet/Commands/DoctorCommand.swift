import ArgumentParser

struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Checks what pods need on this node and says what to do about each failure.",
        discussion: "Ends with 1 when a check failed; a warning is none. Meant to be run as root, as swiftletd is.")

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var format: OutputOptions

    @Option(help: "swiftletd's data directory.")
    var dataDir = "/var/lib/swiftlet"

    @Option(help: "Directory of CNI configurations.")
    var cniConfDir = "/etc/cni/net.d"

    @Option(help: "Directory of CNI plugins; may be repeated.")
    var cniBinDir = ["/opt/cni/bin", "/usr/lib/cni"]

    @Option(help: "Directory with the guest's kernel and initramfs, for when swiftletd does not say; may be repeated.")
    var guestDir = ["/usr/lib/swiftlet/guest", "/usr/local/lib/swiftlet/guest"]

    func run() async throws {
        let findings = await findings(on: ThisNode(), daemon: try connection.daemon())
        switch format.output {
        case .json: Terminal.output(try JSONText.of(findings))
        case .text: Terminal.output(findings.text)
        }
        if findings.contains(where: { $0.verdict == .fail }) { throw ExitCode.failure }
    }

    private func findings(on node: some Node, daemon: Daemon) async -> [Finding] {
        let report = await DaemonChecks.ask(daemon)
        return [
            MachineChecks.kvm(node),
            MachineChecks.vsock(node),
            MachineChecks.tun(node),
            MachineChecks.cgroups(node),
            MachineChecks.disk(node, directory: dataDir),
            HypervisorChecks.libvirt(node),
            await HypervisorChecks.qemu(node),
            HypervisorChecks.guest(node, kernel: report.kernel, initramfs: report.initramfs, directories: guestDir),
            HypervisorChecks.tools(node),
            NetworkChecks.cni(node, configurations: cniConfDir, plugins: cniBinDir),
        ] + report.findings
    }
}
