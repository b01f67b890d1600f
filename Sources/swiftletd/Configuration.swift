import Errors
import Foundation
import TOMLKit

/// The daemon's configuration file. Every key may be absent; an unknown one is an error.
struct Configuration: Codable, Sendable {
    struct Machine: Codable, Sendable {
        /// Guest kernel and initramfs.
        var kernel = "/usr/lib/swiftlet/guest/vmlinuz"
        var initramfs = "/usr/lib/swiftlet/guest/initramfs.img"
        /// The disk with the guest's agent; empty: agent.erofs beside the initramfs, where it is there.
        var agent = ""
        /// The kernel's modules on demand; empty: modules.erofs beside the kernel, where it is there.
        var modules = ""
        /// The disk with the agent for guests of VM pods; empty: tools.iso beside the kernel, where it is there.
        var tools = ""
        var kernelArguments: [String] = []
        /// auto, kvm or tcg.
        var accelerator = "auto"
        /// vhost-user or kernel.
        var vsock = "vhost-user"
        /// swiftlet-vsockd; empty: beside swiftletd.
        var vsockBackend = ""
        /// auto, system, embed, or a libvirt URI.
        var libvirt = "auto"
        /// MiB of RAM of a pod without a memory limit.
        var defaultMemory = 512
        var defaultCPUs = 1
        /// GiB that a pod's containers can write.
        var scratchSize = 10
        /// GiB that a pod can ask for by its annotation swiftlet/scratch-size; 0: no more than `scratchSize`.
        var maxScratchSize = 0
        /// Seconds from the start of QEMU to the agent's answer.
        var bootTimeout = 60
        /// User ids that are the pods' alone. By default above those of FreeIPA and SSSD, which end at 2000200000, and among those that
        /// systemd leaves unused, 1879048192 to 2147352575 (its UIDS-GIDS page).
        var firstPodUID = 2_001_000_000
        var podUIDs = 65536

        enum CodingKeys: String, CodingKey {
            case kernel, initramfs, agent, modules, tools, accelerator, vsock, libvirt
            case kernelArguments = "kernel_arguments"
            case vsockBackend = "vsock_backend"
            case defaultMemory = "default_memory_mib"
            case defaultCPUs = "default_cpus"
            case scratchSize = "scratch_size_gib"
            case maxScratchSize = "max_scratch_size_gib"
            case bootTimeout = "boot_timeout_seconds"
            case firstPodUID = "pod_uid_first"
            case podUIDs = "pod_uid_count"
        }
    }

    /// Of pods that are virtual machines.
    struct VM: Codable, Sendable {
        /// Patterns as glob(7)'s of the node's devices that a pod may have; empty: all that the kubelet passes.
        var rawDevices: [String] = []

        enum CodingKeys: String, CodingKey {
            case rawDevices = "raw_devices"
        }
    }

    /// Of pods that run on the node itself.
    struct Host: Codable, Sendable {
        /// A runtime handler.
        struct Handler: Codable, Sendable {
            /// That RuntimeClasses carry.
            var name: String
            /// The OCI runtime: a path, or a name to be found in /usr/local/sbin, /usr/local/bin, /usr/sbin, /usr/bin, /sbin and /bin.
            var runtime = "runc"
            /// runc, crun or runsc; empty: by the program's name.
            var kind = ""
            /// Of the runtime, before its commands.
            var options: [String] = []
            /// Namespaces of Kubernetes whose pods may use it; "*": any.
            var namespaces: [String] = []

            enum CodingKeys: CodingKey {
                case name, runtime, kind, options, namespaces
            }
        }

        /// Empty: no pod runs on the node.
        var handlers: [Handler] = []
        /// As `runtime`.
        var conmon = "conmon"
        /// The one of `handlers` for pods without a RuntimeClass that ask for the node's namespaces; empty: they are refused.
        var nodePods = ""
        /// With the files of the Container Device Interface, later ones before earlier ones; empty: no such devices.
        var cdiDirectories = ["/etc/cdi", "/var/run/cdi"]

        enum CodingKeys: String, CodingKey {
            case handlers, conmon
            case nodePods = "node_pods"
            case cdiDirectories = "cdi_spec_dirs"
        }
    }

    /// Of machines that wait for pods, booted and paused.
    struct Pool: Codable, Sendable {
        /// Machines of another size than a pod that says nothing gets.
        struct Shape: Codable, Sendable, Equatable {
            var memory: Int
            var cpus: Int?
            var size: Int

            enum CodingKeys: String, CodingKey {
                case cpus, size
                case memory = "memory_mib"
            }
        }

        /// How many of the size that a pod gets which says nothing; 0: none.
        var size = 0
        /// Whether they are ended with the daemon; else they wait for the next one.
        var drain = false
        var shapes: [Shape] = []

        enum CodingKeys: CodingKey {
            case size, drain, shapes
        }
    }

    struct Network: Codable, Sendable {
        var configDirectory = "/etc/cni/net.d"
        /// A network list that is put there with the ranges of UpdateRuntimeConfig; empty for none.
        var template = ""
        var pluginDirectories = ["/opt/cni/bin", "/usr/lib/cni"]
        /// Pods with the annotation swiftlet/allow-spoofing: "true" may send from addresses that are not theirs.
        var allowsSpoofing = false
        /// CNI's GC at start. Not where another runtime of the node uses the same network.
        var collectsGarbage = true

        enum CodingKeys: String, CodingKey {
            case configDirectory = "cni_config_dir"
            case template = "cni_template"
            case pluginDirectories = "cni_plugin_dirs"
            case allowsSpoofing = "allow_spoofing_annotation"
            case collectsGarbage = "cni_gc"
        }
    }

    struct Metrics: Codable, Sendable {
        /// Where a Prometheus server scrapes: unix:///PATH or tcp://LOOPBACK:PORT; empty: nowhere.
        var address = ""

        enum CodingKeys: CodingKey {
            case address
        }
    }

    struct Stream: Codable, Sendable {
        /// Where clients open sessions, ADDRESS:PORT; empty: nowhere. Another address than a loopback one needs a certificate.
        var address = "127.0.0.1:10351"
        /// A certificate chain and its key, PEM; empty: nothing is encrypted.
        var certificate = ""
        var key = ""
        /// Sessions at once, with those that wait for their clients: exec and attach of a container, all of a pod, all.
        var containerSessions = 64
        var podSessions = 128
        var nodeSessions = 1000
        /// How long a client may take to open its streams.
        var creationTimeout = "30s"
        /// How long nothing may move in a session.
        var idleTimeout = "4h"
        /// swiftlet-streamd; empty: beside swiftletd.
        var daemon = ""

        enum CodingKeys: String, CodingKey {
            case address, daemon
            case certificate = "tls_certificate"
            case key = "tls_key"
            case containerSessions = "sessions_per_container"
            case podSessions = "sessions_per_pod"
            case nodeSessions = "sessions"
            case creationTimeout = "creation_timeout"
            case idleTimeout = "idle_timeout"
        }
    }

    struct Logs: Codable, Sendable {
        /// Where the lines of logs go beside their files.
        struct Collection: Codable, Sendable {
            /// A unix stream socket that a collector listens on, for lines of JSON; empty: none.
            var socket = ""
            /// http:// or https:// URL of an OTLP receiver, without /v1/logs; empty: none.
            var otlpEndpoint = ""
            /// Whose certificates the receiver may have, PEM; empty: the node's usual ones.
            var otlpAuthorities = ""
            /// What a request may take.
            var otlpTimeout = "10s"
            /// "none" or "gzip".
            var otlpCompression = "none"
            /// Of lines that may wait for each of the two.
            var queueBytes = 8 << 20

            enum CodingKeys: String, CodingKey {
                case socket
                case otlpEndpoint = "otlp_endpoint"
                case otlpAuthorities = "otlp_ca"
                case otlpTimeout = "otlp_timeout"
                case otlpCompression = "otlp_compression"
                case queueBytes = "queue_bytes"
            }
        }

        /// Of a container's output that goes to its log; 0: any. Annotations of a pod can lower both.
        var bytesPerSecond = 0
        /// Writes to a container's log; 0: any.
        var operationsPerSecond = 0
        /// What becomes of more: "wait" or "drop".
        var overBudget = "wait"
        /// Bytes with which a log's file is full and swiftlet-streamd rotates it; 0: never, since the kubelet does.
        var maxSize = 0
        /// Files of one log, the present one among them.
        var maxFiles = 5
        var collection = Collection()

        enum CodingKeys: String, CodingKey {
            case collection
            case bytesPerSecond = "bytes_per_second"
            case operationsPerSecond = "operations_per_second"
            case overBudget = "over_budget"
            case maxSize = "max_size"
            case maxFiles = "max_files"
        }
    }

    struct Images: Codable, Sendable {
        /// Layers of one pull that are fetched or converted at a time.
        var maxDownloads = 3
        /// Layers fetched from one registry at a time.
        var maxDownloadsPerRegistry = 6
        /// Layers fetched at a time, from all registries.
        var maxDownloadsTotal = 24
        /// Layers turned into disk images at a time.
        var maxConversions = 3
        /// How long a registry may send nothing: `90s`, `5m`.
        var progressTimeout = "5m"
        /// KiB a minute that the layers of a pull must bring together, over five minutes and after the first; 0: any.
        var minThroughput = 1024
        /// swiftlet-diskinfo; empty: beside swiftletd.
        var diskInspector = ""
        var disks = Disks()

        enum CodingKeys: String, CodingKey {
            case maxDownloads = "max_concurrent_downloads"
            case maxDownloadsPerRegistry = "max_concurrent_downloads_per_registry"
            case maxDownloadsTotal = "max_concurrent_downloads_total"
            case maxConversions = "max_concurrent_conversions"
            case progressTimeout = "image_pull_progress_timeout"
            case minThroughput = "image_pull_min_kib_per_minute"
            case diskInspector = "disk_inspector"
            case disks
        }
    }

    /// Disk images that are named by where they are on the web.
    struct Disks: Codable, Sendable {
        struct Translation: Codable, Sendable {
            /// One of the two: what the name is, or a regular expression for all of it.
            var name = ""
            var regexp = ""
            /// $1 to $9 are the expression's groups.
            var url: String
            var transport = ""
            var sha256 = ""
            /// "raw" or "qcow2"; empty: what it looks like.
            var format = ""

            enum CodingKeys: CodingKey {
                case name, regexp, url, transport, sha256, format
            }
        }

        struct Transport: Codable, Sendable {
            var timeout = "5m"
            var maxRedirects = 5
            var proxy = ""
            /// PEM files.
            var authorities = ""
            var certificate = ""
            var key = ""
            /// What the certificate of the URL's host is for; empty: the host.
            var serverName = ""
            /// Certificates are not looked at.
            var insecure = false

            enum CodingKeys: String, CodingKey {
                case timeout, proxy
                case maxRedirects = "max_redirects"
                case authorities = "tls_ca"
                case certificate = "tls_certificate"
                case key = "tls_key"
                case serverName = "tls_server_name"
                case insecure = "tls_insecure"
            }
        }

        /// A host that references begin with whose rest is the URL's host and path; empty: none do.
        var prefix = ""
        /// Of such URLs: https or http.
        var scheme = "https"
        var translations: [Translation] = []
        var transports: [String: Transport] = [:]
        /// Whether hosts that references name, or that a server sends this node to, may have private addresses.
        var allowsPrivate = false
        /// Networks in which they may have any.
        var allowedNetworks: [String] = []

        enum CodingKeys: String, CodingKey {
            case prefix, scheme, translations, transports
            case allowsPrivate = "allow_private"
            case allowedNetworks = "allowed_networks"
        }
    }

    struct Registry: Codable, Sendable {
        var host: String
        var mirrors: [String] = []
        var plainHTTP = false
        /// Origins that the registry may send this node to by redirects or as token servers, whatever their address and scheme.
        var allowedRedirects: [String] = []

        enum CodingKeys: String, CodingKey {
            case host, mirrors
            case plainHTTP = "plain_http"
            case allowedRedirects = "allowed_redirects"
        }
    }

    /// Where the CRI is served.
    var endpoint = "unix:///run/swiftlet/swiftletd.sock"
    /// A TCP endpoint has no authentication: who reaches it has the node.
    var allowsTCPEndpoint = false
    /// Durable state: database, images, scratch disks.
    var root = "/var/lib/swiftlet"
    /// Sockets and consoles of running machines.
    var run = "/run/swiftlet"
    /// trace, debug, info, notice, warning, error or critical.
    var logLevel = "info"
    /// Who makes the cgroups of pods, as the kubelet asks: auto, cgroupfs or systemd.
    var cgroupDriver = "auto"
    var machine = Machine()
    var vm = VM()
    var pool = Pool()
    var host = Host()
    var network = Network()
    var metrics = Metrics()
    var stream = Stream()
    var logs = Logs()
    var images = Images()
    var registries: [Registry] = []

    enum CodingKeys: String, CodingKey, CaseIterable {
        case endpoint, root, run, machine, vm, pool, host, network, metrics, stream, logs, images, registries
        case allowsTCPEndpoint = "allow_tcp_endpoint"
        case logLevel = "log_level"
        case cgroupDriver = "cgroup_driver"
    }

    static let defaultPath = "/etc/swiftlet/swiftletd.toml"

    /// Reads `path`; without one, the default file if it exists.
    ///
    /// - Throws: `.invalidArgument` naming the file and what is wrong in it.
    static func load(path: String?) throws -> Configuration {
        let file = path ?? defaultPath
        guard path != nil || FileManager.default.fileExists(atPath: file) else { return Configuration() }
        do {
            let text = try String(contentsOfFile: file, encoding: .utf8)
            return try TOMLDecoder(strictDecoding: true).decode(Configuration.self, from: text)
        } catch {
            throw SwiftletError(.invalidArgument, "configuration \(file)", cause: error)
        }
    }
}
