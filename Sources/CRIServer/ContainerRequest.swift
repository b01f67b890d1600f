import CRI
import Errors
import Pods
import Runtime

/// Validates a ContainerConfig and turns it into the heart's spec.
enum ContainerRequest {
    static func spec(_ config: CRIContainerConfig) throws -> ContainerSpec {
        guard config.hasMetadata else { throw SwiftletError(.invalidArgument, "CreateContainer: config.metadata is missing") }
        try Validation.name(config.metadata.name, "config.metadata.name")
        let image = config.image.image
        guard !image.isEmpty else { throw SwiftletError(.invalidArgument, "CreateContainer: config.image.image is missing") }
        try Validation.word(image, "config.image.image")
        var spec = ContainerSpec(metadata: .init(name: config.metadata.name, attempt: config.metadata.attempt), image: image)
        try Validation.text(config.image.userSpecifiedImage, "config.image.user_specified_image")
        spec.userSpecifiedImage = config.image.userSpecifiedImage
        for text in config.command + config.args { try Validation.noNUL(text, "config.command and args") }
        spec.command = config.command
        spec.arguments = config.args
        try Validation.noNUL(config.workingDir, "config.working_dir")
        spec.workingDirectory = config.workingDir
        spec.environment = try config.envs.map(environment)
        spec.labels = config.labels
        spec.annotations = config.annotations
        try Validation.relativePath(config.logPath, "config.log_path")
        spec.logPath = config.logPath
        spec.stdin = config.stdin
        spec.stdinOnce = config.stdinOnce
        spec.terminal = config.tty
        spec.stopSignal = try SignalMessage.name(of: config.stopSignal)
        spec.mounts = try MountRequest.mounts(config.mounts)
        try refuseUnsupported(config)
        try SecurityRequest.add(config.linux.securityContext, to: &spec)
        spec.security.devices = try config.devices.map(DeviceRequest.device)
        let cdi = try DeviceRequest.cdi(config.cdiDevices.map(\.name), config.annotations)
        spec.security.cdiDevices = cdi.isEmpty ? nil : cdi
        try ResourcesRequest.add(config.linux.resources, to: &spec)
        return spec
    }

    private static func environment(_ entry: CRIKeyValue) throws -> ContainerSpec.KeyValue {
        guard !entry.key.isEmpty, !entry.key.contains("=") else {
            let name = quoted(String(entry.key.prefix { $0 != "=" }))
            throw SwiftletError(.invalidArgument, "config.envs: the name \(name) is empty or goes on with \"=\"")
        }
        try Validation.noNUL(entry.key, "config.envs")
        guard !entry.value.contains(0) else { throw SwiftletError(.invalidArgument, "config.envs \(entry.key) contains a NUL") }
        return ContainerSpec.KeyValue(key: entry.key, value: RawText(bytes: entry.value))
    }

    /// Names what a container may not ask for yet, instead of running it without.
    private static func refuseUnsupported(_ config: CRIContainerConfig) throws {
        guard !config.hasWindows else {
            throw SwiftletError(.invalidArgument, "CreateContainer: config.windows: the containers of this node run Linux")
        }
    }
}
