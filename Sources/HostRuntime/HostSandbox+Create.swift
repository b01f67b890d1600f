import Concurrency
import Errors
import Foundation
import Glibc
import Linux
import Runtime

extension HostSandbox {
    func createContainer(_ id: String, _ plan: ContainerPlan, ledger: Ledger) async throws -> ContainerUser {
        let (bundle, writable, spec) = (names.bundle(id), names.writableLayer(id), context.spec)
        guard bundle.attachSocket.utf8.count < 108 else {
            throw SwiftletError(
                .failedPrecondition, "socket path \(bundle.attachSocket) is longer than 107 bytes; choose a shorter run directory")
        }
        try await OwnThread.run { try Self.makeMountPoints(plan.spec.mounts) }
        try await Self.checkMounts(plan.spec.mounts)
        for directory in [bundle.directory, writable] {
            try await ledger.acquire(.directory, directory) { try await OwnThread.run { try HostHandler.makeDirectory(directory) } }
        }
        let labels = try await labels(plan.spec)
        let images = plan.volumeImages
        let serials = Set((plan.root.layers + images.values.flatMap(\.self)).map(\.serial)).sorted()
        let sources = try await ledger.acquire(.hostRoot, bundle.directory, HostRootDocument(layers: serials)) { [handler] in
            let mounted = try await handler.layers.mount(plan.root.layers, for: id)
            try await OwnThread.run { try OverlayRoot.mount(mounted, writable: writable, at: bundle.root, label: labels?.file) }
            return try await Self.mountImages(images, plan.spec, bundle, handler.layers, for: id)
        }
        let (pidTarget, ipcTarget) = (
            try target(plan.spec.pidMode == .target ? plan.spec.pidTarget : nil),
            try target(plan.spec.security.ipcMode == .target ? plan.spec.security.ipcTarget : nil)
        )
        let cgroup = ContainerCgroup.name(id, below: spec.cgroupParent, usesSystemd: handler.configuration.usesSystemd)
        let (names, namespace) = (names, context.network.namespacePath)
        let (cdi, kind) = (handler.configuration.cdi, handler.runtimeConfiguration.kind)
        let user = try await OwnThread.run {
            var user = try ImageUsers(root: bundle.root).resolve(plan)
            let (devices, rules) = try DeviceNodes.find(plan.spec)
            let place = ContainerPlace(
                pod: spec, names: names, container: id, user: user, networkNamespace: namespace, pidTarget: pidTarget?.pid,
                ipcTarget: ipcTarget?.pid,
                cgroupsPath: cgroup, devices: devices, deviceRules: rules, isUnifiedCgroup: try Cgroups.detect().layout == .v2,
                images: sources, labels: labels, namesPod: kind.namesPod)
            if let profile = RuntimeSpec.appArmorProfile(plan.spec) { try AppArmor().check(profile) }
            var config = try RuntimeSpec(plan, place)
            if let devices = plan.spec.security.cdiDevices, !devices.isEmpty {
                try config.apply(cdi.edits(for: devices))
                user.groups = [user.gid] + config.process.user.additionalGids
            }
            try FileManager.default.createDirectory(atPath: bundle.exits, withIntermediateDirectories: true)
            try JSONEncoder.bundle.encode(config).write(to: URL(fileURLWithPath: bundle.config))
            return user
        }
        let logPath = spec.logDirectory.isEmpty || plan.spec.logPath.isEmpty ? "" : "\(spec.logDirectory)/\(plan.spec.logPath)"
        try await add(
            HostRecord(
                container: id, terminal: plan.spec.terminal, stdin: plan.spec.stdin, stdinOnce: plan.spec.stdinOnce, logPath: logPath,
                layers: serials, targets: [pidTarget, ipcTarget].compactMap(\.self)))
        return user
    }

    /// Of SELinux, for a container that has options where the node has it: the labels of the container, which what it mounts gets. Elsewhere
    /// they are left out, as other runtimes do; a type of one's own is refused before.
    private func labels(_ spec: ContainerSpec) async throws -> SELinux.Labels? {
        guard let options = RuntimeSpec.selinuxOptions(spec) else { return nil }
        let (pod, names) = (context.id, names)
        return try await OwnThread.run {
            let module = SELinux()
            guard module.isEnabled else { return nil }
            let labels = try module.labels(options, pod: pod)
            let own = ["hosts", "hostname", "resolv.conf"].map { names.file($0) } + [names.sharedMemory]
            for path in own where access(path, F_OK) == 0 { try module.relabel(path, as: labels.file) }
            for mount in spec.mounts where mount.selinuxRelabel && mount.image.isEmpty {
                do {
                    try module.relabel(mount.hostPath, as: labels.file)
                } catch {
                    throw SwiftletError.wrap(error, "config.mounts \(quoted(mount.containerPath))")
                }
            }
            return labels
        }
    }

    /// - Returns: what the container is to see, by the mount's index.
    private static func mountImages(
        _ images: [Int: [LayerImage]], _ spec: ContainerSpec, _ bundle: ContainerBundle, _ layers: LayerMounts, for id: String
    ) async throws -> [Int: String] {
        guard !images.isEmpty else { return [:] }
        try await OwnThread.run { try HostHandler.makeDirectory(bundle.images) }
        var sources: [Int: String] = [:]
        for (index, image) in images.sorted(by: { $0.key < $1.key }) {
            let (mount, mounted) = (spec.mounts[index], try await layers.mount(image, for: id))
            do {
                sources[index] = try await OwnThread.run {
                    try ImageMount.mount(mounted, subPath: mount.imageSubPath, at: "\(bundle.images)/\(index)")
                }
            } catch {
                throw SwiftletError.wrap(error, "config.mounts \(quoted(mount.containerPath))")
            }
        }
        return sources
    }

    /// The first process of a container whose namespaces another joins.
    private func target(_ id: String?) throws -> ProcessIdentity? {
        guard let id else { return nil }
        guard let process = try record(id).process, process.isAlive else {
            throw SwiftletError(.failedPrecondition, "namespace_options.target_id: container \(id) does not run")
        }
        return process
    }

    /// A directory that is not there yet is made, as other runtimes do. Blocks.
    private static func makeMountPoints(_ mounts: [ContainerMount]) throws {
        for mount in mounts where mount.image.isEmpty && access(mount.hostPath, F_OK) != 0 && errno == ENOENT {
            do {
                try FileManager.default.createDirectory(atPath: mount.hostPath, withIntermediateDirectories: true)
            } catch {
                throw SwiftletError(
                    .failedPrecondition, "config.mounts \(quoted(mount.containerPath)): make \(mount.hostPath)", cause: error)
            }
        }
    }

    /// Whether mounts can come and go as they are to.
    private static func checkMounts(_ mounts: [ContainerMount]) async throws {
        let passing = mounts.filter { $0.propagation != .none && $0.image.isEmpty }
        guard !passing.isEmpty else { return }
        try await OwnThread.run {
            for mount in passing {
                let found = try MountPropagation.of(mount.hostPath)
                let field = "config.mounts \(quoted(mount.containerPath)): propagation"
                if mount.propagation == .bidirectional, !found.isShared {
                    throw SwiftletError(
                        .failedPrecondition,
                        "\(field) PROPAGATION_BIDIRECTIONAL: host_path \(mount.hostPath) is on a mount of the node that is not shared; mount --make-rshared"
                    )
                }
                if mount.propagation == .hostToContainer, !found.isShared, !found.isSlave {
                    throw SwiftletError(
                        .failedPrecondition,
                        "\(field) PROPAGATION_HOST_TO_CONTAINER: host_path \(mount.hostPath) is on a mount of the node that is neither shared nor slave; "
                            + "mount --make-rshared")
                }
            }
        }
    }
}

extension JSONEncoder {
    /// The same text for the same bundle.
    static var bundle: JSONEncoder {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return encoder
    }
}
