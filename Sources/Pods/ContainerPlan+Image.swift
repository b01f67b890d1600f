import Errors
import Images
import Linux
import Runtime

extension ContainerPlan {
    /// - Throws: `.invalidArgument` when there is no command for a container of layers, or the stop signal or the user makes no sense, `.failedPrecondition` when the
    ///   image's programs are for another machine.
    init(_ spec: ContainerSpec, rootfs: ImageRootfs, hostname: String) throws {
        let image = rootfs.config
        guard image.runs(on: .current) else {
            throw SwiftletError(
                .failedPrecondition,
                "container \(spec.metadata.name): image \(spec.image) is for \(printable("\(image.os)/\(image.architecture)")); "
                    + "this machine runs \(Platform.current.os)/\(Platform.current.architecture)")
        }
        let arguments = Self.arguments(spec, image)
        guard !arguments.isEmpty || rootfs.content.disk != nil else {
            throw SwiftletError(
                .invalidArgument, "container \(spec.metadata.name): no command: neither the request nor image \(spec.image) names one")
        }
        let workingDirectory = spec.workingDirectory.isEmpty ? image.workingDir : spec.workingDirectory
        let signal = spec.stopSignal.isEmpty ? image.stopSignal : spec.stopSignal
        self.init(
            spec: spec, root: rootfs.content, arguments: arguments, environment: Self.environment(spec, image, hostname: hostname),
            workingDirectory: workingDirectory.isEmpty ? "/" : workingDirectory, user: try Self.user(spec, image),
            stopSignal: try SignalName.number(of: signal.isEmpty ? "SIGTERM" : signal))
        volumes = Self.volumes(image)
    }

    /// Relative paths are below the root, as container runtimes take them.
    private static func volumes(_ image: ImageConfig) -> [String] {
        image.volumes.compactMap { path in
            var parts: [Substring] = []
            for part in path.split(separator: "/") where part != "." {
                if part == ".." { _ = parts.popLast() } else { parts.append(part) }
            }
            return parts.isEmpty ? nil : "/" + parts.joined(separator: "/")
        }
    }

    private static func user(_ spec: ContainerSpec, _ image: ImageConfig) throws -> UserReference {
        spec.user.isEmpty
            ? try UserReference(parsing: image.user, "container \(spec.metadata.name): the image's USER")
            : try UserReference(parsing: spec.user, "container \(spec.metadata.name): run_as_username")
    }

    /// The request's command replaces the image's entrypoint and default arguments; arguments alone replace the latter.
    private static func arguments(_ spec: ContainerSpec, _ image: ImageConfig) -> [String] {
        if !spec.command.isEmpty { return spec.command + spec.arguments }
        let defaults = spec.arguments.isEmpty ? image.cmd : spec.arguments
        return image.entrypoint + defaults
    }

    private static func environment(_ spec: ContainerSpec, _ image: ImageConfig, hostname: String) -> [RawText] {
        var entries: [(key: String, value: RawText)] = []
        var indices: [String: Int] = [:]
        func set(_ key: String, _ value: RawText) {
            if let index = indices[key] {
                entries[index].value = value
            } else {
                indices[key] = entries.count
                entries.append((key, value))
            }
        }
        set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        set("HOSTNAME", RawText(hostname))
        if spec.terminal { set("TERM", "xterm") }
        for entry in image.env {
            let parts = entry.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            set(String(parts[0]), RawText(parts.count > 1 ? String(parts[1]) : ""))
        }
        for entry in spec.environment { set(entry.key, entry.value) }
        return entries.map { RawText(bytes: Array("\($0.key)=".utf8) + $0.value.bytes) }
    }
}
