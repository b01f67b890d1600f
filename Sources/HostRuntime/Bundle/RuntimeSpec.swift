/// config.json of a bundle: the parts of the OCI runtime specification that are used here, by its names.
/// https://github.com/opencontainers/runtime-spec/blob/v1.0.2/config.md, which all runtimes read.
struct RuntimeSpec: Codable, Sendable, Equatable {
    struct Root: Codable, Sendable, Equatable {
        var path: String
        var readonly: Bool
    }

    struct User: Codable, Sendable, Equatable {
        var uid: UInt32
        var gid: UInt32
        var additionalGids: [UInt32]
    }

    struct CapabilitySets: Codable, Sendable, Equatable {
        var bounding: [String]
        var effective: [String]
        var permitted: [String]
        var inheritable: [String]
        var ambient: [String]
    }

    struct ConsoleSize: Codable, Sendable, Equatable {
        var height: UInt16
        var width: UInt16
    }

    struct Process: Codable, Sendable, Equatable {
        var terminal: Bool
        /// In rows and columns.
        var consoleSize: ConsoleSize?
        var user: User
        var args: [String]
        var env: [String]
        var cwd: String
        var capabilities: CapabilitySets
        var noNewPrivileges: Bool
        var oomScoreAdj: Int32?
        var apparmorProfile: String?
        var selinuxLabel: String?
    }

    struct Mount: Codable, Sendable, Equatable {
        var destination: String
        var type: String
        var source: String
        var options: [String]
    }

    struct Namespace: Codable, Sendable, Equatable {
        var type: String
        /// Nil: a new one.
        var path: String?
    }

    struct Device: Codable, Sendable, Equatable {
        var path: String
        /// c or b.
        var type: String
        var major: UInt32
        var minor: UInt32
        var fileMode: UInt32
        var uid: UInt32
        var gid: UInt32
    }

    struct DeviceRule: Codable, Sendable, Equatable {
        var allow: Bool
        var type: String?
        var major: UInt32?
        var minor: UInt32?
        var access: String
    }

    struct Memory: Codable, Sendable, Equatable {
        var limit: Int64?
        var swap: Int64?
    }

    struct CPU: Codable, Sendable, Equatable {
        var shares: Int64?
        var quota: Int64?
        var period: Int64?
        var cpus: String?
        var mems: String?
    }

    struct HugepageLimit: Codable, Sendable, Equatable {
        var pageSize: String
        var limit: UInt64
    }

    struct Resources: Codable, Sendable, Equatable {
        var devices: [DeviceRule]?
        var memory: Memory?
        var cpu: CPU?
        var hugepageLimits: [HugepageLimit]?
        var unified: [String: String]?
    }

    struct Linux: Codable, Sendable, Equatable {
        var namespaces: [Namespace]
        var devices: [Device]
        var resources: Resources
        var cgroupsPath: String
        var rootfsPropagation: String
        var maskedPaths: [String]
        var readonlyPaths: [String]
        var sysctl: [String: String]
        var seccomp: Seccomp?
        /// SELinux's, of what the runtime mounts.
        var mountLabel: String?
    }

    /// A program that the runtime runs at a moment of the container's life.
    struct Hook: Codable, Sendable, Equatable {
        var path: String
        var args: [String]?
        var env: [String]?
        /// Seconds.
        var timeout: Int?
    }

    struct Hooks: Codable, Sendable, Equatable {
        var prestart: [Hook]?
        var createRuntime: [Hook]?
        var createContainer: [Hook]?
        var startContainer: [Hook]?
        var poststart: [Hook]?
        var poststop: [Hook]?
    }

    struct Seccomp: Codable, Sendable, Equatable {
        struct Argument: Codable, Sendable, Equatable {
            var index: UInt32
            var value: UInt64
            var valueTwo: UInt64
            var op: String
        }

        struct Rule: Codable, Sendable, Equatable {
            var names: [String]
            var action: String
            var errnoRet: UInt32?
            var args: [Argument]?
        }

        var defaultAction: String
        var defaultErrnoRet: UInt32?
        var architectures: [String]
        var flags: [String]?
        var syscalls: [Rule]
    }

    var ociVersion = "1.0.2"
    var hostname: String?
    var root: Root
    var process: Process
    var mounts: [Mount]
    var linux: Linux
    var hooks: Hooks?
    var annotations: [String: String]
}
