import AgentProtocol
import CLinux
import Errors
import Glibc
import Linux
import Synchronization

/// Makes a booted guest, whose clock is set, one pod's. Every step can be repeated.
struct SandboxSetup: Sendable {
    /// Holds what the agent writes for containers.
    static let runDirectory = "/run/swiftlet"

    /// Opened when disks can be used.
    let storage: Latch
    let volumes: ModulesOnDemand
    let demanded: DemandedModules

    private static let longestHostname = 64
    private static let longestFile = 1 << 20

    /// - Returns: what containers are made in.
    /// - Throws: the failed step's error.
    func start(_ request: AgentStartSandboxRequest) throws(SwiftletError) -> SandboxEnvironment {
        try addEntropy(Array(request.entropy))
        try setHostname(request.hostname)
        // Sysctls of an interface exist only once it has its name.
        do {
            try GuestNetwork.configure(interfaces: request.interfaces, routes: request.routes)
        } catch {
            throw SwiftletError.wrap(error, "network")
        }
        for (name, value) in request.sysctls { try setSysctl(name, value) }

        let directory = Self.runDirectory
        try Files.makeDirectory(directory)
        guard request.resolvConf.utf8.count <= Self.longestFile, request.etcHosts.utf8.count <= Self.longestFile else {
            throw SwiftletError(.invalidArgument, "resolv.conf and hosts may hold \(Self.longestFile) bytes each")
        }
        try Files.write(request.resolvConf, to: "\(directory)/resolv.conf")
        try Files.write(request.etcHosts, to: "\(directory)/hosts")
        let scratch = "\(directory)/scratch"
        let mounting = Mutex(())
        let cgroups = "/sys/fs/cgroup"
        let disks = ScsiDisks()
        var environment = SandboxEnvironment(
            scratchDirectory: scratch, scratchSerial: request.scratchSerial,
            mountScratch: { [serial = request.scratchSerial] () throws(SwiftletError) in
                try mounting.withLock { _ throws(SwiftletError) in try Self.mountScratch(serial, disks, at: scratch) }
            },
            devices: DeviceWaits(
                disks: DeviceWaits.Disks(present: disks.present, scan: ScsiDisks.scan),
                modules: DeviceWaits.Modules(areLoaded: { [storage] in storage.isOpen }, wait: { [storage] in storage.wait() })),
            volumeModules: { [volumes] in volumes.demand() },
            diskPath: { serial throws(SwiftletError) in try disks.path(serial: serial) },
            hostname: request.hostname, resolvConfPath: "\(directory)/resolv.conf", hostsPath: "\(directory)/hosts", cgroupRoot: cgroups,
            shared: PodSharedState(scratchDirectory: scratch, cgroupRoot: cgroups), volumes: PodVolumes(directory: directory))
        environment.demandedModules = demanded
        return environment
    }

    private func addEntropy(_ bytes: [UInt8]) throws(SwiftletError) {
        guard !bytes.isEmpty else { return }
        guard bytes.count <= 512 else { throw SwiftletError(.invalidArgument, "entropy of \(bytes.count) bytes, more than 512") }
        guard clinux_add_entropy(bytes, Int32(bytes.count)) == 0 else { throw .system("adding entropy to the random pool") }
    }

    private func setHostname(_ name: String) throws(SwiftletError) {
        guard !name.isEmpty else { return }
        let length = name.utf8.count
        guard length <= Self.longestHostname else { throw SwiftletError(.invalidArgument, "hostname of \(length) bytes, more than 64") }
        guard sethostname(name, length) == 0 else { throw .system("setting the hostname") }
    }

    /// Dots or slashes separate the parts, as in sysctl(8): whichever comes first.
    private func setSysctl(_ name: String, _ value: String) throws(SwiftletError) {
        let separator = name.first { $0 == "." || $0 == "/" } ?? "."
        let parts = name.split(separator: separator, omittingEmptySubsequences: false).map { part in
            separator == "." ? part.split(separator: "/", omittingEmptySubsequences: false).joined(separator: ".") : String(part)
        }
        guard !name.utf8.contains(0), parts.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." && !$0.contains("/") }) else {
            throw SwiftletError(.invalidArgument, "sysctl name of \(name.utf8.count) bytes is malformed")
        }
        do {
            try Files.write(value, to: "/proc/sys/" + parts.joined(separator: "/"))
        } catch {
            throw error.during("sysctl \(name)")
        }
    }

    private static func mountScratch(_ serial: String, _ disks: ScsiDisks, at directory: String) throws(SwiftletError) {
        try Files.makeDirectory(directory)
        guard !Mounts.isMountPoint(directory) else { return }
        if serial.isEmpty {
            try Mounts.mount("tmpfs", "tmpfs", at: directory, options: "mode=0755")
        } else {
            let disk = try disks.path(serial: serial)
            // What is deleted leaves the node's disk, and nobody zeroes inode tables that may never be used.
            try Mounts.mount(disk, "ext4", at: directory, flags: [.noAccessTimes], options: "discard,noinit_itable")
        }
    }
}
