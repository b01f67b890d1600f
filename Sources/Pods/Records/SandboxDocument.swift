import Errors
import Foundation
import Runtime
import State

/// A sandbox as it is kept on disk.
struct SandboxDocument: StoredDocument {
    static let what = "pod sandbox record"
    static let version = 2

    var spec: SandboxSpec
    var state: SandboxState

    /// 2: the state says which network a sandbox has, and by which phase its start has come; the spec which one it asks for.
    static func upgrade(_ document: inout [String: Any], from version: Int) throws {
        guard version == 1 else { return }
        if var spec = document["spec"] as? [String: Any] {
            spec["networkMode"] = NetworkMode.pod.rawValue
            document["spec"] = spec
        }
        guard let state = document["state"] as? [String: Any], let name = state.keys.first else { return }
        let network = (state[name] as? [String: Any])?["_0"].map { ["attached": ["_0": $0]] }
        let value: [String: Any] = network.map { ["_0": $0] } ?? [:]
        switch name {
        case "networked", "booting":
            document["state"] = ["starting": value.merging(["phase": name]) { old, _ in old }]
        case "ready", "stopping":
            document["state"] = [name: value]
        default: break
        }
    }
}

/// A container as it is kept on disk.
struct ContainerDocument: StoredDocument {
    static let what = "container record"

    var spec: ContainerSpec
    var imageID: String
    var state: ContainerState
    var logPath: String
    var stopSignal: Int32
    var user: ContainerUser?
}
