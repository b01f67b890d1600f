import Errors
import Runtime

/// What a container is given with a device (containerEdits).
struct CDIEdits: Decodable, Sendable, Equatable {
    struct DeviceNode: Decodable, Sendable, Equatable {
        /// In the container.
        var path: String
        /// Nil: `path`.
        var hostPath: String?
        /// c, u, b or p; nil: as on the node.
        var type: String?
        var major: UInt32?
        var minor: UInt32?
        var fileMode: UInt32?
        /// Letters of "rwm"; empty: none. Nil: all.
        var access: String?
        var uid: UInt32?
        var gid: UInt32?

        private enum CodingKeys: String, CodingKey, CaseIterable {
            case path, hostPath, type, major, minor, fileMode, permissions, uid, gid
        }

        init(from decoder: any Decoder) throws {
            let container = try decoder.knownFields(CodingKeys.self)
            path = try CDIEdits.path(container.decode(String.self, forKey: .path), "deviceNodes.path")
            hostPath = try container.decodeIfPresent(String.self, forKey: .hostPath).flatMap { $0.isEmpty ? nil : $0 }
            if let hostPath { _ = try CDIEdits.path(hostPath, "deviceNodes.hostPath") }
            type = try container.decodeIfPresent(String.self, forKey: .type).flatMap { $0.isEmpty ? nil : $0 }
            if let type, !["c", "u", "b", "p"].contains(type) { throw CDIEdits.wrong("deviceNodes.type", type) }
            major = try container.decodeIfPresent(UInt32.self, forKey: .major)
            minor = try container.decodeIfPresent(UInt32.self, forKey: .minor)
            uid = try container.decodeIfPresent(UInt32.self, forKey: .uid)
            gid = try container.decodeIfPresent(UInt32.self, forKey: .gid)
            fileMode = try container.decodeIfPresent(Mode.self, forKey: .fileMode)?.bits
            let permissions = try container.decodeIfPresent(String.self, forKey: .permissions) ?? ""
            guard permissions == "none" || permissions.allSatisfy({ "rwm".contains($0) }) else {
                throw CDIEdits.wrong("deviceNodes.permissions", permissions)
            }
            access = permissions.isEmpty ? nil : permissions == "none" ? "" : permissions
        }
    }

    /// A number; octal as YAML 1.1 has it, which is a string to others.
    private struct Mode: Decodable {
        var bits: UInt32

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let number = try? container.decode(UInt32.self) {
                bits = number & 0o7777
            } else {
                let text = try container.decode(String.self)
                guard text.hasPrefix("0"), let number = UInt32(text.drop { $0 == "0" || $0 == "o" }, radix: 8) else {
                    throw CDIEdits.wrong("deviceNodes.fileMode", text)
                }
                bits = number & 0o7777
            }
        }
    }

    struct Mount: Decodable, Sendable, Equatable {
        var hostPath: String
        var containerPath: String
        /// Nil: a bind mount.
        var type: String?
        var options: [String]

        private enum CodingKeys: String, CodingKey, CaseIterable { case hostPath, containerPath, type, options }

        init(from decoder: any Decoder) throws {
            let container = try decoder.knownFields(CodingKeys.self)
            hostPath = try container.decode(String.self, forKey: .hostPath)
            containerPath = try CDIEdits.path(container.decode(String.self, forKey: .containerPath), "mounts.containerPath")
            type = try container.decodeIfPresent(String.self, forKey: .type).flatMap { $0.isEmpty ? nil : $0 }
            options = try container.decodeIfPresent([String].self, forKey: .options) ?? []
            if isBind { _ = try CDIEdits.path(hostPath, "mounts.hostPath") }
        }

        /// Else `hostPath` is what a filesystem of `type` calls its source.
        var isBind: Bool {
            (type.map { $0 == "bind" || $0 == "none" } ?? true) || options.contains { $0 == "bind" || $0 == "rbind" }
        }
    }

    struct Hook: Decodable, Sendable, Equatable {
        enum Name: String, Decodable, Sendable {
            case prestart, createRuntime, createContainer, startContainer, poststart, poststop
        }

        var name: Name
        var path: String
        var args: [String]?
        var env: [String]?
        /// Seconds.
        var timeout: Int?

        private enum CodingKeys: String, CodingKey, CaseIterable { case hookName, path, args, env, timeout }

        init(from decoder: any Decoder) throws {
            let container = try decoder.knownFields(CodingKeys.self)
            let name = try container.decode(String.self, forKey: .hookName)
            guard let known = Name(rawValue: name) else { throw CDIEdits.wrong("hooks.hookName", name) }
            self.name = known
            path = try CDIEdits.path(container.decode(String.self, forKey: .path), "hooks.path")
            args = try container.decodeIfPresent([String].self, forKey: .args)
            env = try container.decodeIfPresent([String].self, forKey: .env)
            try CDIEdits.check(env ?? [], "hooks.env")
            timeout = try container.decodeIfPresent(Int.self, forKey: .timeout)
            if let timeout, timeout <= 0 { throw CDIEdits.wrong("hooks.timeout", "\(timeout)") }
        }
    }

    var env: [String] = []
    var deviceNodes: [DeviceNode] = []
    var mounts: [Mount] = []
    var hooks: [Hook] = []
    var additionalGIDs: [UInt32] = []
    /// Asks for a share of caches and memory bandwidth, which nobody here gives.
    var hasIntelRdt = false

    init() {}

    private enum CodingKeys: String, CodingKey, CaseIterable {
        case env, deviceNodes, mounts, hooks, additionalGids, intelRdt
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.knownFields(CodingKeys.self)
        env = try container.decodeIfPresent([String].self, forKey: .env) ?? []
        try Self.check(env, "env")
        deviceNodes = try container.decodeIfPresent([DeviceNode].self, forKey: .deviceNodes) ?? []
        mounts = try container.decodeIfPresent([Mount].self, forKey: .mounts) ?? []
        hooks = try container.decodeIfPresent([Hook].self, forKey: .hooks) ?? []
        // 0 is nobody's additional group: files say it for "none".
        additionalGIDs = try container.decodeIfPresent([UInt32].self, forKey: .additionalGids)?.filter { $0 != 0 } ?? []
        hasIntelRdt = container.contains(.intelRdt)
    }

    /// Those of a file come before its device's.
    mutating func append(_ other: CDIEdits) {
        env += other.env
        deviceNodes += other.deviceNodes
        mounts += other.mounts
        hooks += other.hooks
        additionalGIDs += other.additionalGIDs
        hasIntelRdt = hasIntelRdt || other.hasIntelRdt
    }

    fileprivate static func wrong(_ field: String, _ value: String) -> SwiftletError {
        SwiftletError(.invalidArgument, "\(field) \(quoted(value)) cannot be")
    }

    private static func check(_ entries: [String], _ field: String) throws {
        for entry in entries {
            // Its value may be a secret.
            guard let equals = entry.firstIndex(of: "="), equals != entry.startIndex, !entry.utf8.contains(0) else {
                throw SwiftletError(.invalidArgument, "\(field): \(quoted(String(entry.prefix { $0 != "=" }))) is no NAME=VALUE")
            }
        }
    }

    private static func path(_ path: String, _ field: String) throws -> String {
        guard path.hasPrefix("/"), path.utf8.count < 4096, !path.utf8.contains(0), !path.split(separator: "/").contains("..") else {
            throw SwiftletError(.invalidArgument, "\(field) \(quoted(path)) is no absolute path without \"..\"")
        }
        return path
    }
}
