import CRI
import Errors
import Glibc

/// The pod and the container that `swiftlet run` asks for, worked out before anything is done.
struct RunPlan: Equatable, Sendable {
    /// The command line's options.
    struct Wishes: Equatable, Sendable {
        var image: String
        var command: [String] = []
        var name: String?
        var environment: [String] = []
        /// Bytes.
        var memory: Int64?
        var cpus: Double?
        var workingDirectory: String?
        var user: String?
        /// "KEY=VALUE".
        var annotations: [String] = []
        var hasStdin = false
        var hasTerminal = false
    }

    /// Marks everything made by one `swiftlet run`.
    static let label = "swiftlet/run"
    static let namespace = "swiftlet"

    /// What a kubelet asks for by default, and container tools as well.
    static let maskedPaths = [
        "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
        "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
    ]
    static let readonlyPaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

    let name: String
    let uid: String
    let image: String
    let pod: CRIPodSandboxConfig
    let container: CRIContainerConfig

    /// - Parameters:
    ///   - uid: unique on the node.
    ///   - inherited: this process's environment, for `--env NAME`.
    /// - Throws: `SwiftletError` `invalidArgument` naming the option that cannot be.
    init(_ wishes: Wishes, uid: String, inherited: [String: String]) throws {
        let name = wishes.name ?? Self.name(for: wishes.image, uid: uid)
        guard Self.isName(name) else {
            throw SwiftletError(
                .invalidArgument, "--name \(name): a name has 1 to 63 lower-case letters, digits and hyphens, no hyphen at its ends")
        }
        self.name = name
        self.uid = uid
        image = wishes.image

        let resources = Self.resources(wishes)
        let annotations = try Self.annotations(wishes.annotations)
        pod = .with {
            $0.annotations = annotations
            $0.metadata.name = name
            $0.metadata.uid = uid
            $0.metadata.namespace = Self.namespace
            $0.hostname = name
            $0.labels = [Self.label: uid]
            $0.linux.securityContext.namespaceOptions.pid = .container
            if let resources { $0.linux.resources = resources }
        }
        let security = try Self.security(wishes.user)
        let environment = try Self.environment(wishes.environment, inherited: inherited)
        container = .with {
            $0.metadata.name = name
            $0.image.userSpecifiedImage = wishes.image
            $0.args = wishes.command
            $0.workingDir = wishes.workingDirectory ?? ""
            $0.envs = environment
            $0.logPath = "\(name)_0.log"
            ($0.stdin, $0.stdinOnce, $0.tty) = (wishes.hasStdin, wishes.hasStdin, wishes.hasTerminal)
            $0.labels = [Self.label: uid]
            $0.linux.securityContext = security
            if let resources { $0.linux.resources = resources }
        }
    }

    /// The pod's configuration with its logs in `directory`.
    func pod(loggingTo directory: LogDirectory) -> CRIPodSandboxConfig {
        var config = pod
        config.logDirectory = directory.path
        config.annotations[LogDirectory.annotation] = directory.path
        return config
    }

    /// "docker.io/library/busybox:1.36" with uid "3f9a2b..." gives "busybox-3f9a2".
    private static func name(for image: String, uid: String) -> String {
        let last = image.split(separator: "/").last ?? ""
        let base = last.prefix { $0 != ":" && $0 != "@" }.lowercased().map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "-" }
        let trimmed = String(base).split(separator: "-").joined(separator: "-").prefix(50)
        return (trimmed.isEmpty ? "pod" : trimmed.last == "-" ? String(trimmed.dropLast()) : String(trimmed)) + "-" + uid.prefix(5)
    }

    /// A DNS label (RFC 1123): it becomes the pod's host name and part of a path.
    private static func isName(_ name: String) -> Bool {
        (1...63).contains(name.utf8.count) && name.first != "-" && name.last != "-"
            && name.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == UInt8(ascii: "-") }
    }

    private static func annotations(_ words: [String]) throws -> [String: String] {
        var annotations: [String: String] = [:]
        for word in words {
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty else {
                throw SwiftletError(.invalidArgument, "--annotation \(word): use KEY=VALUE")
            }
            annotations[String(parts[0])] = String(parts[1])
        }
        return annotations
    }

    private static func resources(_ wishes: Wishes) -> CRILinuxContainerResources? {
        guard wishes.memory != nil || wishes.cpus != nil else { return nil }
        return .with {
            $0.memoryLimitInBytes = wishes.memory ?? 0
            if let cpus = wishes.cpus {
                $0.cpuPeriod = 100_000
                $0.cpuQuota = Int64((cpus * 100_000).rounded())
                $0.cpuShares = Int64((cpus * 1024).rounded())
            }
        }
    }

    /// "1000", "1000:1000" or a name of the image's.
    private static func security(_ user: String?) throws -> CRILinuxContainerSecurityContext {
        var context = CRILinuxContainerSecurityContext()
        (context.maskedPaths, context.readonlyPaths) = (maskedPaths, readonlyPaths)
        context.namespaceOptions.pid = .container
        guard let user else { return context }
        let parts = user.split(separator: ":", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), parts.allSatisfy({ !$0.isEmpty }) else {
            throw SwiftletError(.invalidArgument, "--user \(user): use UID, UID:GID, NAME or NAME:GID")
        }
        if let uid = Int64(parts[0]) { context.runAsUser.value = uid } else { context.runAsUsername = String(parts[0]) }
        if parts.count == 2 {
            guard let gid = Int64(parts[1]) else {
                throw SwiftletError(.invalidArgument, "--user \(user): the group must be a number")
            }
            context.runAsGroup.value = gid
        }
        return context
    }

    private static func environment(_ words: [String], inherited: [String: String]) throws -> [CRIKeyValue] {
        try words.compactMap { word in
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let key = parts.first, !key.isEmpty else {
                throw SwiftletError(.invalidArgument, "--env \(word): use NAME=VALUE, or NAME for this shell's value")
            }
            guard let value = parts.count == 2 ? String(parts[1]) : inherited[String(key)] else { return nil }
            return .with {
                $0.key = String(key)
                $0.value = Array(value.utf8).withUnsafeBytes { .init($0) }
            }
        }
    }
}
