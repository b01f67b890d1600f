import Concurrency
import Errors
import Foundation
import Glibc
import Linux
import Logging
import Runtime
import State

/// Runs each pod's containers on the node itself, by an OCI runtime: for pods that need the node's namespaces, devices or mounts.
///
/// No boundary but the kernel's own is between such a pod and the node.
public final class HostHandler: RuntimeHandler {
    let configuration: HostConfiguration
    let runtimeConfiguration: HostRuntimeConfiguration
    let layers: LayerMounts
    let pause: PauseProgram
    let logger: Logger
    private let securityPolicies: Set<SecurityModule>

    public var name: String { runtimeConfiguration.name }

    /// - Parameter resources: of all handlers of the node.
    public init(_ runtime: HostRuntimeConfiguration, resources: HostResources, logger: Logger) throws {
        (configuration, layers, pause, runtimeConfiguration) = (resources.configuration, resources.layers, resources.pause, runtime)
        self.logger = logger
        securityPolicies = Set((AppArmor().isEnabled ? [.appArmor] : []) + (SELinux().isEnabled ? [.selinux] : []))
        // Containers' roots are below them: nobody but root passes.
        let directories = [
            configuration.runDirectory, configuration.stateDirectory, layers.directory, HostNames.runtimeRoot(runtime.name, configuration),
        ]
        for directory in directories { try Self.makeDirectory(directory) }
    }

    static func makeDirectory(_ path: String) throws {
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            try FileManager.default.setAttributes([.posixPermissions: 0o700], ofItemAtPath: path)
        } catch {
            throw SwiftletError(.internal, "make directory \(path)", cause: error)
        }
    }

    var runtime: OCIRuntime {
        OCIRuntime(
            path: runtimeConfiguration.path, options: runtimeConfiguration.options, root: HostNames.runtimeRoot(name, configuration),
            deadline: configuration.runtimeDeadline)
    }

    public var capabilities: HandlerCapabilities {
        var capabilities = HandlerCapabilities()
        capabilities.networkModes = [.pod, .node]
        capabilities.nodeNamespaces = [.pid, .ipc]
        capabilities.recursiveReadOnlyMounts = true
        capabilities.devices = nil
        capabilities.cdiDevices = !configuration.cdiDirectories.isEmpty
        capabilities.hugePages = true
        capabilities.bidirectionalMounts = true
        capabilities.writesLogs = true
        capabilities.securityPolicies = securityPolicies
        return capabilities
    }

    public func obstacle() async -> String? {
        let (runtime, conmon) = (runtimeConfiguration, configuration.conmon)
        return await OwnThread.answer {
            for (path, what) in [(runtime.path, "OCI runtime"), (conmon, "conmon")] where access(path, X_OK) != 0 {
                return "\(what) \(path) cannot be executed; install it, or name another in the configuration"
            }
            guard runtime.kind == .crun, (try? Cgroups.detect())?.layout == .hybrid else { return nil }
            return "\(runtime.path) (crun) refuses the node's hybrid control groups; configure runc, or mount cgroup v2 alone"
        }
    }

    public func start(_ context: SandboxContext) async throws -> any Sandbox {
        try admit(context.spec)
        if let reason = await obstacle() { throw SwiftletError(.failedPrecondition, "runtime handler \(name): \(reason)") }
        let names = HostNames(configuration: configuration, pod: context.id)
        for directory in [names.runDirectory, names.stateDirectory] {
            try await context.ledger.acquire(.directory, directory) { try await OwnThread.run { try Self.makeDirectory(directory) } }
        }
        let spec = context.spec
        for kind in PinnedNamespace.free where kind.isNeeded(by: spec) {
            let (path, hostname) = (names.namespace(kind), spec.effectiveHostname)
            try await context.ledger.acquire(.hostNamespace, path) {
                try await OwnThread.run { try kind.create(at: path, hostname: hostname) }
            }
        }
        if !spec.nodeNamespaces.contains(.ipc) {
            let path = names.sharedMemory
            try await context.ledger.acquire(.hostMount, path) {
                try await OwnThread.run { try NodeMount.createSharedMemory(at: path) }
            }
        }
        let network = try await context.network.attached()
        try await OwnThread.run { try EtcFiles(spec, network).write(names) }
        let pause = spec.sharesPidNamespace ? try await startPause(context, names) : nil
        logger.notice(
            "pod runs on the node",
            metadata: [
                "pod": "\(context.id)", "namespace": "\(spec.metadata.namespace)", "name": "\(spec.metadata.name)", "handler": "\(name)",
                "nodeNetwork": "\(spec.networkMode == .node)", "nodeNamespaces": "\(spec.nodeNamespaces.map(\.rawValue))",
            ])
        let sandbox = HostSandbox(context, names, network, self, pause: pause, [])
        sandbox.rotateLogs()
        return sandbox
    }

    /// Whether the pod may be on the node.
    private func admit(_ spec: SandboxSpec) throws {
        let namespace = spec.metadata.namespace
        guard runtimeConfiguration.admits(namespace) else {
            logger.notice(
                "pod refused on the node", metadata: ["namespace": "\(namespace)", "name": "\(spec.metadata.name)", "handler": "\(name)"])
            throw SwiftletError(
                .permissionDenied,
                "pods of namespace \(namespace) may not use runtime handler \(name), which runs them on the node itself; its administrator "
                    + "names the namespaces that may in host.handlers of swiftletd.toml")
        }
        if spec.networkMode == .node, let sysctl = spec.sysctls.keys.sorted().first(where: { $0.hasPrefix("net.") }) {
            throw SwiftletError(
                .invalidArgument, "config.linux.sysctls \(sysctl): the pod's network is the node's, whose settings are not its")
        }
    }

    public func reattach(_ context: SandboxContext) async throws -> any Sandbox {
        let names = HostNames(configuration: configuration, pod: context.id)
        let network = try await context.network.attached()
        let spec = context.spec
        let records = try await OwnThread.run {
            for kind in PinnedNamespace.allCases where kind.isNeeded(by: spec) && !NetworkNamespace.isBound(at: names.namespace(kind)) {
                throw SwiftletError(.notFound, "the pod's \(kind.rawValue) namespace is gone")
            }
            guard access(names.runDirectory, F_OK) == 0 else { throw SwiftletError(.notFound, "the pod's directory is gone") }
            return try HostRecord.all(in: names.runDirectory)
        }
        if let path = context.network.namespacePath, !NetworkNamespace.isBound(at: path) {
            throw SwiftletError(.notFound, "the pod's network namespace is gone")
        }
        let pause = try await reattachedPause(context)
        for record in records { layers.restore(record.layers, of: record.container) }
        let sandbox = HostSandbox(context, names, network, self, pause: pause, records)
        for record in records where record.phase == .starting { try await sandbox.undoStart(record) }
        await OwnThread.answer { sandbox.followSessions() }
        sandbox.rotateLogs()
        return sandbox
    }

    /// Pods are found by their directories below the daemon's own, which no other daemon uses.
    public func leftovers(besides isKnown: @Sendable (_ pod: String) -> Bool) async throws -> [Leftover] {
        let configuration = configuration
        let pods = try await OwnThread.run {
            Set(
                try [configuration.runDirectory, configuration.stateDirectory].flatMap { try KernelFile.names(in: $0) }
                    .filter { Leftover.isPodPrefix($0) })
        }
        var found: [Leftover] = []
        for pod in pods.sorted() where !isKnown(pod) {
            let names = HostNames(configuration: configuration, pod: pod)
            for path in [names.runDirectory, names.stateDirectory] {
                found.append(try Leftover(pod: pod, kind: .directory, name: path, document: EmptyDocument()))
            }
            for kind in PinnedNamespace.allCases {
                found.append(try Leftover(pod: pod, kind: .hostNamespace, name: names.namespace(kind), document: EmptyDocument()))
            }
            found.append(try Leftover(pod: pod, kind: .hostMount, name: names.sharedMemory, document: EmptyDocument()))
            if let pause = try await OwnThread.run({ try PauseDocument.found(names.pauseFile) }) {
                found.append(try Leftover(pod: pod, kind: .hostPause, name: pod, document: pause))
            }
            for record in try await OwnThread.run({ try HostRecord.all(in: names.runDirectory) }) {
                let bundle = names.bundle(record.container)
                let root = HostRootDocument(layers: record.layers)
                found.append(try Leftover(pod: pod, kind: .hostRoot, name: bundle.directory, document: root))
                let document = document(of: record, bundle)
                found.append(try Leftover(pod: pod, kind: .hostContainer, name: record.container, document: document))
            }
        }
        return found
    }

    func document(of record: HostRecord, _ bundle: ContainerBundle) -> HostContainerDocument {
        var document = HostContainerDocument(bundle: bundle.directory, runtime: runtime.path, runtimeRoot: runtime.root)
        (document.process, document.monitor, document.cgroup) = (record.process, record.monitor, record.cgroup)
        (document.monitorCgroup, document.runtimeOptions) = (record.monitorCgroup, runtime.options.isEmpty ? nil : runtime.options)
        return document
    }
}

extension PinnedNamespace {
    /// A pod in the node's network has the node's name.
    func isNeeded(by spec: SandboxSpec) -> Bool {
        switch self {
        case .uts: spec.networkMode == .pod
        case .ipc: !spec.nodeNamespaces.contains(.ipc)
        case .pid: spec.sharesPidNamespace
        }
    }
}
