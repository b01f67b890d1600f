import Errors

/// When the resources of a kind are acquired: no release of a pod may overtake the work that acquires.
public enum ResourceScope: Sendable, Equatable {
    /// In the sandbox's start.
    case sandbox
    /// In the creation of a container, whoever owns them.
    case container
}

/// How the resources of one kind are released.
public struct ResourceReleaser: Sendable {
    public let kind: ResourceKind
    public let scope: ResourceScope
    /// The release takes long and needs not wait for that of what was acquired later: it begins with the first of its owner's. What was
    /// acquired earlier waits for its end, as for any.
    public let beginsAtOnce: Bool
    /// Idempotent; needs no guest and no handler.
    public let release: @Sendable (LedgerEntry) async throws -> Void

    public init(
        _ kind: ResourceKind, scope: ResourceScope = .sandbox, beginsAtOnce: Bool = false,
        release: @escaping @Sendable (LedgerEntry) async throws -> Void
    ) {
        self.kind = kind
        self.scope = scope
        self.beginsAtOnce = beginsAtOnce
        self.release = release
    }
}

/// The releasers of all kinds that this daemon knows, whatever handlers are configured.
public struct Releasers: Sendable {
    private let byKind: [ResourceKind: ResourceReleaser]

    /// - Parameter releasers: one for each kind; the first counts.
    public init(_ releasers: [ResourceReleaser]) {
        byKind = Dictionary(releasers.map { ($0.kind, $0) }) { first, _ in first }
    }

    public func adding(_ releasers: [ResourceReleaser]) -> Releasers {
        Releasers(Array(byKind.values) + releasers)
    }

    public func scope(of kind: ResourceKind) -> ResourceScope? { byKind[kind]?.scope }

    func beginsAtOnce(_ kind: ResourceKind) -> Bool { byKind[kind]?.beginsAtOnce ?? false }

    /// - Throws: `.failedPrecondition` for a kind that this version does not know; what the release throws.
    public func release(_ entry: LedgerEntry) async throws {
        guard let releaser = byKind[entry.kind] else {
            throw SwiftletError(
                .failedPrecondition,
                "this version of Swiftlet does not know the kind \(entry.kind) and cannot release it; start the version that made it")
        }
        try await releaser.release(entry)
    }
}
