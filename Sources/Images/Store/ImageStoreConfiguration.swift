import Foundation

/// Where images are kept and how they are fetched.
public struct ImageStoreConfiguration: Sendable {
    /// Directory of the store; made when missing.
    public var root: String
    /// QEMU's: it alone reads layers, beside root; nil: root alone.
    public var group: UInt32?
    /// Registries that need something special; any other host is reached by https.
    public var registries: [RegistryConfiguration]
    /// Layers that may be on their way at a time.
    public var downloads: DownloadLimits
    /// Layers turned into disk images at a time, over all pulls and loads; one pull or load gets one less, if that is one at least.
    public var maxConversions: Int
    /// What the downloads of a pull must bring.
    public var leastThroughput: LeastThroughput
    /// A download without a byte for this long has failed.
    public var progressTimeout: Duration
    /// Time for a connection to be made.
    public var connectTimeout: Duration
    /// How often a request is tried when the failure may pass.
    public var attempts: Int
    /// Pause before the second attempt; doubles each time.
    public var retryDelay: Duration
    public var limits: LayerLimits
    /// The program that tells what a disk image is, swiftlet-diskinfo.
    public var diskInspector = "/usr/sbin/swiftlet-diskinfo"
    /// Disks that are named by where they are on the web.
    public var disks = DiskSources()
    /// References that the kubelet must not remove, such as the sandbox image.
    public var pinned: [String]

    public init(
        root: String, registries: [RegistryConfiguration] = [], downloads: DownloadLimits = DownloadLimits(), maxConversions: Int = 3,
        leastThroughput: LeastThroughput = LeastThroughput(), progressTimeout: Duration = .seconds(300),
        connectTimeout: Duration = .seconds(20), attempts: Int = 4,
        retryDelay: Duration = .milliseconds(500), limits: LayerLimits = LayerLimits(), pinned: [String] = []
    ) {
        self.root = root
        self.registries = registries
        self.downloads = downloads
        self.maxConversions = maxConversions
        self.leastThroughput = leastThroughput
        self.progressTimeout = progressTimeout
        self.connectTimeout = connectTimeout
        self.attempts = attempts
        self.retryDelay = retryDelay
        self.limits = limits
        self.pinned = pinned
    }
}

/// Layers that may be on their way at a time. Free places go to the registry, and of it to the pull, with the fewest downloads.
public struct DownloadLimits: Sendable {
    /// Also counts the pull's layers that are being converted.
    public var perPull: Int
    /// By the host of the registry or mirror.
    public var perRegistry: Int
    public var total: Int

    public init(perPull: Int = 3, perRegistry: Int = 6, total: Int = 24) {
        self.perPull = perPull
        self.perRegistry = perRegistry
        self.total = total
    }
}

/// The least that the downloads of one pull must bring together to keep their places: `bytes` in every `window` that begins after `grace`.
public struct LeastThroughput: Sendable {
    /// 0 for no such limit.
    public var bytes: UInt64
    public var window: Duration
    public var grace: Duration
    /// What the exchange of a small document may take: as long as a pull gets that brings next to nothing.
    public var patience: Duration

    /// The default: 1 MiB a minute.
    public init(bytes: UInt64 = 5 << 20, window: Duration = .seconds(300), grace: Duration = .seconds(60)) {
        self.bytes = bytes
        self.window = window
        self.grace = grace
        patience = grace + window
    }

    /// So much a minute, over the default window and after the default grace.
    public init(kibPerMinute: Int) {
        self.init()
        bytes = UInt64(kibPerMinute) << 10 * UInt64(window.components.seconds) / 60
    }
}

/// What is special about one registry.
public struct RegistryConfiguration: Sendable {
    /// As it stands in references: `docker.io`, `registry.example:5000`.
    public var host: String
    /// Hosts asked first, in this order. They are sent no credentials.
    public var mirrors: [String]
    /// Use http instead of https, for the host; a mirror has an entry of its own.
    public var plainHTTP: Bool
    /// Origins (`http://storage.internal:9000`) that the registry may send this node to, whatever their address and scheme.
    public var allowedRedirects: [String]

    public init(host: String, mirrors: [String] = [], plainHTTP: Bool = false, allowedRedirects: [String] = []) {
        self.host = host
        self.mirrors = mirrors
        self.plainHTTP = plainHTTP
        self.allowedRedirects = allowedRedirects
    }
}

extension RegistryConfiguration {
    /// Whether `text` is an origin as `allowedRedirects` compares them: in lower case, without a path, without the scheme's own port.
    public static func isOrigin(_ text: String) -> Bool {
        URL(string: text).flatMap { RegistryDestinations.origin(of: $0) } == text
    }
}

/// Credentials of one pull: AuthConfig of the CRI. Never written down.
public struct RegistryAuth: Sendable, Hashable {
    public var username: String
    public var password: String
    /// `username:password` in base64, instead of the two above.
    public var auth: String
    /// The registry the credentials are for; others do not get them. Empty: the one of the reference.
    public var serverAddress: String
    /// An OAuth2 refresh token.
    public var identityToken: String
    /// A bearer token, sent as it is.
    public var registryToken: String

    public init(
        username: String = "", password: String = "", auth: String = "", serverAddress: String = "", identityToken: String = "",
        registryToken: String = ""
    ) {
        self.username = username
        self.password = password
        self.auth = auth
        self.serverAddress = serverAddress
        self.identityToken = identityToken
        self.registryToken = registryToken
    }
}
