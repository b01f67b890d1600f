import Errors
import Foundation
import Glibc
import Runtime

/// An OCI runtime on the node, and who may use it.
public struct HostRuntimeConfiguration: Sendable, Equatable {
    /// How a runtime is used beside what the OCI runtime's command line says.
    public enum Kind: String, Sendable {
        case runc
        case crun
        case runsc

        /// gVisor takes a container that names its pod's id for one that joins the sandbox of that name, which nobody makes here.
        var namesPod: Bool { self != .runsc }
    }

    /// The handler's name, which a RuntimeClass carries.
    public var name: String
    /// Absolute.
    public var path: String
    public var kind: Kind
    /// Options of the runtime, before its commands.
    public var options: [String]
    /// Namespaces of Kubernetes whose pods may use it; empty: none. "*" is any.
    public var namespaces: [String]

    public init(name: String, path: String, kind: Kind, options: [String] = [], namespaces: [String]) {
        (self.name, self.path, self.kind, self.options, self.namespaces) = (name, path, kind, options, namespaces)
    }

    func admits(_ namespace: String) -> Bool { namespaces.contains("*") || namespaces.contains(namespace) }
}

/// Where pods on the node have their files, and what runs them.
public struct HostConfiguration: Sendable {
    /// Bundles, sockets and mounts. Short: a socket path must stay under 108 bytes.
    public var runDirectory: String
    /// Writable layers.
    public var stateDirectory: String
    /// Absolute.
    public var conmon: String
    /// The first process of PID namespaces that containers share. Absolute.
    public var pause = "/usr/sbin/swiftlet-pause"
    /// Who makes the control groups of pods is systemd.
    public var usesSystemd: Bool
    /// How long a call of the runtime may take.
    public var runtimeDeadline: Duration = .seconds(20)
    /// Of containers' logs; nil: the kubelet rotates them, or nobody does.
    public var logRotation: LogRotation?
    /// With the files of the Container Device Interface, later ones before earlier ones; empty: no devices by it.
    public var cdiDirectories: [String] = []

    var cdi: CDIDirectories { CDIDirectories(paths: cdiDirectories) }

    public init(runDirectory: String, stateDirectory: String, conmon: String, usesSystemd: Bool) {
        (self.runDirectory, self.stateDirectory) = (runDirectory, stateDirectory)
        (self.conmon, self.usesSystemd) = (conmon, usesSystemd)
    }
}

/// Names on the node, all derived from the ids of pod and container.
struct HostNames: Sendable {
    var configuration: HostConfiguration
    var pod: String

    private static func short(_ id: String) -> String { String(id.prefix(13)) }

    var runDirectory: String { "\(configuration.runDirectory)/\(Self.short(pod))" }
    var stateDirectory: String { "\(configuration.stateDirectory)/\(Self.short(pod))" }
    func namespace(_ kind: PinnedNamespace) -> String { "\(runDirectory)/\(kind.rawValue)" }
    var sharedMemory: String { "\(runDirectory)/shm" }
    /// What a daemon without a ledger has to know of the first process of the pod's PID namespace.
    var pauseFile: String { "\(runDirectory)/pause.json" }
    /// A file that containers see in /etc.
    func file(_ name: String) -> String { "\(runDirectory)/\(name)" }

    /// The unix socket that hands out sockets of the pod's network.
    var sockets: String { "\(runDirectory)/sockets" }

    func bundle(_ container: String) -> ContainerBundle { ContainerBundle(directory: "\(runDirectory)/\(Self.short(container))") }
    /// The writable layer of a container.
    func writableLayer(_ container: String) -> String { "\(stateDirectory)/\(Self.short(container))" }

    /// What a runtime keeps of its containers.
    static func runtimeRoot(_ handler: String, _ configuration: HostConfiguration) -> String {
        "\(configuration.runDirectory)/runtime/\(handler)"
    }

    static func layers(_ configuration: HostConfiguration) -> String { "\(configuration.runDirectory)/layers" }
}

/// A container's directory: what the OCI runtime and conmon are given, and what they leave there.
struct ContainerBundle: Sendable {
    var directory: String

    var config: String { "\(directory)/config.json" }
    var root: String { "\(directory)/root" }
    /// Images that it mounts.
    var images: String { "\(directory)/images" }
    var record: String { "\(directory)/container.json" }
    /// conmon's: the first process of the container, and its own.
    var processFile: String { "\(directory)/pid" }
    var monitorFile: String { "\(directory)/conmon.pid" }
    var exits: String { "\(directory)/exits" }
    func exitFile(_ container: String) -> String { "\(exits)/\(container)" }
    /// conmon makes it when the kernel has killed a process of the container for lack of memory.
    var outOfMemoryFile: String { "\(directory)/oom" }
    var attachSocket: String { "\(directory)/attach" }
    var control: String { "\(directory)/ctl" }
}
