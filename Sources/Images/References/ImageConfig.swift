import Errors
import Foundation
import Linux

/// What an image says about the processes made of it: OCI image spec, image configuration.
public struct ImageConfig: Decodable, Sendable, Equatable {
    /// Empty: any.
    public var architecture: String
    /// Empty: any.
    public var os: String
    /// `NAME=value`.
    public var env: [String]
    public var entrypoint: [String]
    public var cmd: [String]
    public var workingDir: String
    /// `user`, `uid`, `user:group`, `uid:gid`, or empty.
    public var user: String
    public var stopSignal: String
    public var labels: [String: String]
    /// `port/protocol`, sorted.
    public var exposedPorts: [String]
    /// Paths, sorted.
    public var volumes: [String]
    /// Digests of the uncompressed layers, lowest first.
    public var diffIDs: [String]

    /// Bytes; a configuration is text written by people.
    static let maximumBytes = 1 << 20
    /// execve(2): MAX_ARG_STRLEN without the NUL.
    private static let maximumArgumentBytes = 131_071
    /// Each is a directory made with the container.
    private static let maximumVolumes = 1000

    public init(
        architecture: String = "", os: String = "linux", env: [String] = [], entrypoint: [String] = [], cmd: [String] = [],
        workingDir: String = "", user: String = "", stopSignal: String = "", labels: [String: String] = [:],
        exposedPorts: [String] = [], volumes: [String] = [], diffIDs: [String] = []
    ) {
        self.architecture = architecture
        self.os = os
        self.env = env
        self.entrypoint = entrypoint
        self.cmd = cmd
        self.workingDir = workingDir
        self.user = user
        self.stopSignal = stopSignal
        self.labels = labels
        self.exposedPorts = exposedPorts
        self.volumes = volumes
        self.diffIDs = diffIDs
    }

    private enum TopKeys: String, CodingKey, CaseIterable { case architecture, os, config, rootfs }
    private enum ConfigKeys: String, CodingKey, CaseIterable {
        case env = "Env"
        case entrypoint = "Entrypoint"
        case cmd = "Cmd"
        case workingDir = "WorkingDir"
        case user = "User"
        case stopSignal = "StopSignal"
        case labels = "Labels"
        case exposedPorts = "ExposedPorts"
        case volumes = "Volumes"
    }
    private enum RootfsKeys: String, CodingKey, CaseIterable {
        case diffIDs = "diff_ids"
    }
    private struct Empty: Decodable {}

    public init(from decoder: any Decoder) throws {
        let top = try decoder.container(keyedBy: TopKeys.self)
        self.init(
            architecture: try top.decodeIfPresent(String.self, forKey: .architecture) ?? "",
            os: try top.decodeIfPresent(String.self, forKey: .os) ?? "")
        if top.contains(.rootfs), try !top.decodeNil(forKey: .rootfs) {
            let rootfs = try top.nestedContainer(keyedBy: RootfsKeys.self, forKey: .rootfs)
            diffIDs = try rootfs.decodeIfPresent([String].self, forKey: .diffIDs) ?? []
        }
        guard top.contains(.config), try !top.decodeNil(forKey: .config) else { return }
        let config = try top.nestedContainer(keyedBy: ConfigKeys.self, forKey: .config)
        func text(_ key: ConfigKeys) throws -> String { try config.decodeIfPresent(String.self, forKey: key) ?? "" }
        // A null in a list is an empty string to Go.
        func list(_ key: ConfigKeys) throws -> [String] {
            (try config.decodeIfPresent([String?].self, forKey: key) ?? []).map { $0 ?? "" }
        }
        env = try list(.env).filter { !$0.isEmpty }
        entrypoint = try list(.entrypoint)
        cmd = try list(.cmd)
        workingDir = try text(.workingDir)
        user = try text(.user)
        stopSignal = try text(.stopSignal)
        labels = (try config.decodeIfPresent([String: String?].self, forKey: .labels) ?? [:]).mapValues { $0 ?? "" }
        exposedPorts = (try config.decodeIfPresent([String: Empty?].self, forKey: .exposedPorts) ?? [:]).keys.sorted()
        volumes = (try config.decodeIfPresent([String: Empty?].self, forKey: .volumes) ?? [:]).keys.sorted()
    }

    /// Whether its programs are for `platform`, as far as it says.
    public func runs(on platform: Platform) -> Bool {
        (os.isEmpty || os == platform.os) && (architecture.isEmpty || architecture == platform.architecture)
    }

    /// Decodes and checks a configuration from a registry or an archive.
    ///
    /// - Throws: `SwiftletError(.dataLoss)` when it is no image configuration.
    static func decode(_ bytes: Data, what: String) throws -> ImageConfig {
        let config = try JSONDocument.decode(
            ImageConfig.self, from: bytes, "configuration of \(what): not that of a container image")
        guard config.diffIDs.count <= ManifestDocument.maximumLayers else {
            throw SwiftletError(
                .invalidArgument, "image \(what): \(config.diffIDs.count) layers, at most \(ManifestDocument.maximumLayers) can be stacked")
        }
        for diffID in config.diffIDs { _ = try Digest(diffID) }
        try config.checkLengths("image \(what)")
        return config
    }

    /// - Throws: `SwiftletError(.invalidArgument)` naming the field that is longer than Linux, or anybody, has a use for.
    private func checkLengths(_ what: String) throws {
        let argument = Self.maximumArgumentBytes
        let fields: [(name: String, values: [String], limit: Int)] = [
            ("User", [user], 256), ("WorkingDir", [workingDir], 4095), ("StopSignal", [stopSignal], 64),
            ("Env", env, argument), ("Entrypoint", entrypoint, argument), ("Cmd", cmd, argument),
            ("Volumes", volumes, 4095), ("ExposedPorts", exposedPorts, 64),
        ]
        for field in fields {
            if let value = field.values.first(where: { $0.utf8.count > field.limit }) {
                throw SwiftletError(
                    .invalidArgument,
                    "\(what): \(field.name) of \(value.utf8.count) bytes in its configuration, at most \(field.limit) can be")
            }
        }
        guard volumes.count <= Self.maximumVolumes else {
            throw SwiftletError(.invalidArgument, "\(what): \(volumes.count) volumes, at most \(Self.maximumVolumes) can be")
        }
    }
}

extension ImageConfig: JSONFields {
    static var fields: [String] {
        TopKeys.allCases.map(\.rawValue) + ConfigKeys.allCases.map(\.rawValue) + RootfsKeys.allCases.map(\.rawValue)
    }
}
