import Images
import Linux
import Logging
import Runtime

/// What every pod works with.
struct PodContext: Sendable {
    var network: any NodeNetwork
    var images: ImageStore
    var store: PodStore
    var snapshots: Snapshots
    var statistics: Statistics
    var settings: NodeSettings
    var output: any ContainerOutput
    /// Of each log; pods may lower it.
    var logBudget: LogBudget
    /// Of each log; nil: somebody else rotates it.
    var logRotation: LogRotation?
    /// Nil: clients open no sessions here.
    var sessions: (any ContainerSessions)?
    /// Nil: crashes are not noted.
    var crashes: CrashRecord?
    var releasers: Releasers
    var deadlines: PodDeadlines
    var logger: Logger
}

/// How long the heart waits for each kind of step.
public struct PodDeadlines: Sendable {
    /// A start of a sandbox, all steps together and the wait for its turn to boot. A kubelet waits 240 s.
    public var sandboxStart: Duration = .seconds(220)
    /// One answer of the guest about a container.
    public var guestAnswer: Duration = .seconds(30)
    /// From SIGKILL to the end of a container.
    public var kill: Duration = .seconds(10)
    /// From the end of a container to the last byte of its log.
    public var logDrain: Duration = .seconds(10)
    /// The containers' end when a sandbox stops.
    public var sandboxStop: Duration = .seconds(5)
    /// One guest's answer about what its pod uses; a list that asks for it waits no longer.
    public var statistics: Duration = .seconds(2)
    /// One release from the ledger.
    public var release: Duration = .seconds(30)
    /// From the moment when a client has given up what it creates until that is undone.
    public var abandonedCreation: Duration = .seconds(10)

    public init() {}
}
