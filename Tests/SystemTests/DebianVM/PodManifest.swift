import CRI
import Errors
import Foundation
import Glibc
import Linux
import YAML

@testable import CloudInit

/// A pod as its author has written it, with what a kubelet asks a runtime for because of it.
struct PodManifest {
    var name: String
    var runtimeClass: String
    var annotations: [String: String]
    /// `spec.containers[0]`: a VM pod has one.
    var container: YAMLValue
    var volumes: [YAMLValue]

    static let directory = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../../examples").standardizedFileURL

    /// The pods of a manifest in examples/: of a Deployment its replicas, of a StatefulSet its members; none of other kinds.
    static func examples(_ file: String) throws -> [PodManifest] {
        let text = try String(contentsOf: directory.appending(path: file), encoding: .utf8)
        guard let manifest = try YAMLReader.read(text), let name = manifest["metadata"]?["name"]?.text else { return [] }
        let spec = manifest["spec"]
        switch manifest["kind"]?.text {
        case "Pod": return [try PodManifest(name, manifest)]
        case "Deployment", "StatefulSet":
            guard let template = spec?["template"], let count = spec?["replicas"]?.text.flatMap({ Int($0) }) else { return [] }
            return try (0..<count).map { try PodManifest("\(name)-\($0)", template) }
        default: return []
        }
    }

    static func example(_ file: String) throws -> PodManifest {
        guard let pod = try examples(file).first else { throw SwiftletError(.notFound, "\(file) holds no pod") }
        return pod
    }

    private init(_ name: String, _ pod: YAMLValue) throws {
        guard let spec = pod["spec"], case .sequence(let containers) = spec["containers"], containers.count == 1 else {
            throw SwiftletError(.invalidArgument, "\(name): a VM pod has one container")
        }
        (self.name, container) = (name, containers[0])
        runtimeClass = spec["runtimeClassName"]?.text ?? ""
        annotations = [:]
        if case .mapping(let members) = pod["metadata"]?["annotations"] {
            for member in members { annotations[member.key.text] = member.value.text }
        }
        if case .sequence(let volumes) = spec["volumes"] { self.volumes = volumes } else { volumes = [] }
    }

    /// Adds what another pod has. Of what there can be one of only, such as the image, the other's counts.
    mutating func add(_ other: PodManifest) {
        annotations.merge(other.annotations) { $1 }
        container = container.merged(with: other.container)
        volumes += other.volumes
    }

    /// Mounts one more volume of a ConfigMap or Secret.
    mutating func mount(_ kind: String, _ volume: String, at path: String) {
        volumes.append(.map([("name", .string(volume)), (kind, .map([(kind == "secret" ? "secretName" : "name", .string(volume))]))]))
        container = container.merged(
            with: .map([
                (
                    "volumeMounts",
                    .sequence([.map([("name", .string(volume)), ("mountPath", .string(path)), ("readOnly", .bool(true))])])
                )
            ]))
    }

    /// What a kubelet says of the container.
    func fill(_ config: inout CRIContainerConfig, _ sources: KubeletVolumes) async throws {
        config.stdin = container["stdin"]?.text == "true"
        config.tty = container["tty"]?.text == "true"
        let limits = container["resources"]?["limits"]
        if let memory = limits?["memory"]?.text.flatMap(Quantity.bytes) {
            config.linux.resources.memoryLimitInBytes = Int64(memory)
        }
        config.envs = Self.list(container["env"]).map { entry in
            .with {
                $0.key = entry["name"]?.text ?? ""
                $0.value = Data((entry["value"]?.text ?? "").utf8)
            }
        }
        // Of every container.
        config.mounts = [
            .host(try sources.file("etc-hosts", "10.0.0.1 kubelet\n"), "/etc/hosts"),
            .host(try sources.file("termination-log", ""), "/dev/termination-log"),
        ]
        for mount in Self.list(container["volumeMounts"]) {
            config.mounts.append(
                .host(try sources.directory(of: try volume(mount)), mount["mountPath"]?.text ?? "") {
                    $0.readonly = mount["readOnly"]?.text == "true"
                })
        }
        for device in Self.list(container["volumeDevices"]) {
            let host = try await sources.device(of: try volume(device))
            config.devices.append(
                .with {
                    $0.hostPath = host
                    $0.containerPath = device["devicePath"]?.text ?? ""
                    $0.permissions = "mrw"
                })
        }
    }

    private func volume(_ use: YAMLValue) throws -> YAMLValue {
        guard let name = use["name"]?.text, let volume = volumes.first(where: { $0["name"]?.text == name }) else {
            throw SwiftletError(.invalidArgument, "\(self.name): no volume \(use["name"]?.text ?? "")")
        }
        return volume
    }

    private static func list(_ value: YAMLValue?) -> [YAMLValue] {
        if case .sequence(let values) = value { values } else { [] }
    }
}

extension Node {
    /// Asks for a pod's machine as a kubelet does, up to its start.
    ///
    /// - Parameter image: where the test has another one than the manifest.
    func createVM(_ manifest: PodManifest, _ sources: KubeletVolumes, image: String? = nil) async throws -> VMOfPod {
        let config = podConfig(manifest.name) { $0.annotations = manifest.annotations }
        let pod = try await cri.call(
            RuntimeRPC.runPodSandbox,
            .with {
                $0.config = config
                $0.runtimeHandler = manifest.runtimeClass
            }
        ).podSandboxID
        var container = CRIContainerConfig()
        try await manifest.fill(&container, sources)
        let filled = container
        let reference = image ?? manifest.container["image"]?.text ?? ""
        let id = try await createContainer(in: pod, manifest.name, [], image: reference) { config in
            let (metadata, image, log) = (config.metadata, config.image, config.logPath)
            config = filled
            (config.metadata, config.image, config.logPath) = (metadata, image, log)
        }
        return VMOfPod(name: manifest.name, pod: pod, container: id)
    }
}

/// A pod and its container, which is its machine.
struct VMOfPod: Sendable {
    var name: String
    var pod: String
    var container: String
}
