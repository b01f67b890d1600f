import AgentProtocol
import Errors
import Images

/// A container as a handler has to make it: the client's spec and the image's configuration put together.
public struct ContainerPlan: Sendable {
    public var spec: ContainerSpec
    public var rootfs: ImageRootfs
    /// The program and its arguments.
    public var arguments: [String]
    /// "KEY=value", later entries win.
    public var environment: [String]
    public var workingDirectory: String
    /// Empty: root.
    public var user: String
    public var stopSignal: Int32
    /// Nil: no filter.
    public var seccomp: AgentSeccompProfile?
    /// The images of the mounts that have one, by the mount's index in the spec.
    public var volumeImages: [Int: ImageRootfs] = [:]

    /// - Throws: `.invalidArgument` when there is no command or the stop signal is unknown.
    init(_ spec: ContainerSpec, rootfs: ImageRootfs, hostname: String) throws {
        let image = rootfs.image.config
        self.spec = spec
        self.rootfs = rootfs
        arguments = Self.arguments(spec, image)
        guard !arguments.isEmpty else {
            throw SwiftletError(
                .invalidArgument, "container \(spec.metadata.name): no command: neither the request nor image \(spec.image) names one")
        }
        environment = Self.environment(spec, image, hostname: hostname)
        workingDirectory = spec.workingDirectory.isEmpty ? image.workingDir : spec.workingDirectory
        if workingDirectory.isEmpty { workingDirectory = "/" }
        user = spec.user.isEmpty ? image.user : spec.user
        let signal = spec.stopSignal.isEmpty ? image.stopSignal : spec.stopSignal
        stopSignal = try SignalName.number(of: signal.isEmpty ? "SIGTERM" : signal)
    }

    /// The request's command replaces the image's entrypoint and default arguments; arguments alone replace the latter.
    private static func arguments(_ spec: ContainerSpec, _ image: ImageConfig) -> [String] {
        if !spec.command.isEmpty { return spec.command + spec.arguments }
        let defaults = spec.arguments.isEmpty ? image.cmd : spec.arguments
        return image.entrypoint + defaults
    }

    private static func environment(_ spec: ContainerSpec, _ image: ImageConfig, hostname: String) -> [String] {
        var entries: [(key: String, value: String)] = []
        func set(_ key: String, _ value: String) {
            if let index = entries.firstIndex(where: { $0.key == key }) {
                entries[index].value = value
            } else {
                entries.append((key, value))
            }
        }
        set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        set("HOSTNAME", hostname)
        if spec.terminal { set("TERM", "xterm") }
        for entry in image.env {
            let parts = entry.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            set(String(parts[0]), parts.count > 1 ? String(parts[1]) : "")
        }
        for entry in spec.environment { set(entry.key, entry.value) }
        return entries.map { "\($0.key)=\($0.value)" }
    }
}
