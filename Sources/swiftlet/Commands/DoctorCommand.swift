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

    @Option(help: "Directory of CNI plug-ins; may be repeated.")
    var cniBinDir = ["/opt/cni/bin", "/usr/lib/cni"]

    @Option(help: "Directory with the guest's kernel and initramfs, for when swiftletd does not say; may be repeated.")
    var guestDir = ["/usr/lib/swiftlet", "/usr/local/lib/swiftlet", "/var/lib/swiftlet/guest"]

    func run() async throws {
        let findings = await findings(on: ThisHost(), daemon: try connection.daemon())
        switch format.output {
        case .json: Terminal.output(try JSONText.of(findings))
        case .text: Terminal.output(findings.text)
        }
        if findings.contains(where: { $0.verdict == .fail }) { throw ExitCode.failure }
    }

    private func findings(on host: some Host, daemon: Daemon) async -> [Finding] {
        let report = await DaemonChecks.ask(daemon)
        return [
            MachineChecks.kvm(host),
            MachineChecks.vsock(host),
            MachineChecks.tun(host),
            MachineChecks.cgroups(host),
            MachineChecks.disk(host, directory: dataDir),
            HypervisorChecks.libvirt(host),
            await HypervisorChecks.qemu(host),
            HypervisorChecks.guest(host, kernel: report.kernel, initramfs: report.initramfs, directories: guestDir),
            HypervisorChecks.tools(host),
            NetworkChecks.cni(host, configurations: cniConfDir, plugins: cniBinDir),
        ] + report.findings
    }
}
