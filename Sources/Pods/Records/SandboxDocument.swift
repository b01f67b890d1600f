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

    /// 2: the state says which network a sandbox has and the phase of its start, the spec which namespaces of the node it asks for.
    static func upgrade(_ document: inout [String: Any], from version: Int) throws {
        guard version == 1 else { return }
        if var spec = document["spec"] as? [String: Any] {
            spec["networkMode"] = NetworkMode.pod.rawValue
            spec["nodeNamespaces"] = [String]()
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
    static let version = 2

    var spec: ContainerSpec
    var imageID: String
    var state: ContainerState
    var logPath: String
    var stopSignal: Int32
    var user: ContainerUser?

    /// 2: the spec says which network it asks for, and names devices by the node's path.
    static func upgrade(_ document: inout [String: Any], from version: Int) throws {
        guard version == 1, var spec = document["spec"] as? [String: Any] else { return }
        spec["networkMode"] = NetworkMode.pod.rawValue
        if var security = spec["security"] as? [String: Any], let devices = security["devices"] as? [[String: Any]] {
            security["devices"] = devices.map { device in
                let path = device["path"] as? String ?? ""
                let number = "\(device["major"] ?? ""):\(device["minor"] ?? "")"
                return ["hostPath": devicePaths[number] ?? path, "containerPath": path, "access": device["access"] ?? "rwm"]
            }
            spec["security"] = security
        }
        document["spec"] = spec
    }

    /// The devices that version 1 could be asked for, by their numbers.
    private static let devicePaths = [
        "1:3": "/dev/null", "1:5": "/dev/zero", "1:7": "/dev/full", "1:8": "/dev/random", "1:9": "/dev/urandom", "5:0": "/dev/tty",
        "10:229": "/dev/fuse", "10:200": "/dev/net/tun",
    ]
}
