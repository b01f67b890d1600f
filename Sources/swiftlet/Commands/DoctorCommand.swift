import ArgumentParser

struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Checks what pods need on this node and says what to do about each failure.",
        discussion: """
            Ends with 1 when a check failed; a warning is none. Meant to be run as root, as swiftletd is. What begins with vm is for pods \
            that are virtual machines (runtime handler vm) and for what their annotations may ask for.
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var format: OutputOptions

    @Option(name: .shortAndLong, help: "swiftletd's configuration file. (default: its own)")
    var config: String?

    @Option(help: "swiftletd's data directory, in place of the configured one.")
    var dataDir: String?

    @Option(help: "Directory of CNI configurations, in place of the configured one.")
    var cniConfDir: String?

    @Option(help: "Directory of CNI plugins, in place of the configured ones; may be repeated.")
    var cniBinDir: [String] = []

    @Option(help: "Directory with the guest's kernel and initramfs, for when nothing else says; may be repeated.")
    var guestDir = ["/usr/lib/swiftlet/guest", "/usr/local/lib/swiftlet/guest"]

    func run() async throws {
        let node = ThisNode()
        let (finding, configuration) = await DaemonConfiguration.read(config, on: node)
        let daemon = try connection.daemon(else: configuration?.endpoint)
        let findings = [finding] + (await findings(on: node, daemon, configuration))
        switch format.output {
        case .json: Terminal.output(try JSONText.of(findings))
        case .text: Terminal.output(findings.text)
        }
        if findings.contains(where: { $0.verdict == .fail }) { throw ExitCode.failure }
    }

    private func findings(on node: some Node, _ daemon: Daemon, _ configuration: DaemonConfiguration?) async -> [Finding] {
        let report = await DaemonChecks.ask(daemon)
        let data = dataDir ?? configuration?.root ?? "/var/lib/swiftlet"
        let plugins = cniBinDir.isEmpty ? configuration?.network.pluginDirectories ?? ["/opt/cni/bin", "/usr/lib/cni"] : cniBinDir
        return [
            MachineChecks.kvm(node),
            MachineChecks.vsock(node), MachineChecks.streams(node),
            MachineChecks.tun(node),
            MachineChecks.cgroups(node),
            MachineChecks.disk(node, directory: data),
            HypervisorChecks.libvirt(node),
            await HypervisorChecks.qemu(node),
            HypervisorChecks.guest(
                node, kernel: report.kernel ?? configuration?.machine.kernel,
                initramfs: report.initramfs ?? configuration?.machine.initramfs, directories: guestDir),
            HypervisorChecks.tools(node),
            NetworkChecks.cni(
                node, configurations: cniConfDir ?? configuration?.network.configDirectory ?? "/etc/cni/net.d", plugins: plugins),
        ] + (await VMChecks.all(node, directory: data)) + [HostChecks.runtimes(node)] + report.findings
    }
}
