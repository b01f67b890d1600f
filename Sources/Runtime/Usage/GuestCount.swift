/// A count that a guest reports, kept within bounds: a guest may report any number, and arithmetic that overflows ends the daemon.
///
/// At most 2^53: sums over a thousand of them, and units that are a thousand times smaller, fit into 64 bits with a sign.
@propertyWrapper public struct GuestCount: Sendable, Equatable {
    public static let most: UInt64 = 1 << 53

    private var count: UInt64

    public var wrappedValue: UInt64 {
        get { count }
        set { count = min(newValue, Self.most) }
    }

    public init(wrappedValue: UInt64) { count = min(wrappedValue, Self.most) }
}

/// A `GuestCount` that may be absent.
@propertyWrapper public struct OptionalGuestCount: Sendable, Equatable {
    private var count: UInt64?

    public var wrappedValue: UInt64? {
        get { count }
        set { count = newValue.map { min($0, GuestCount.most) } }
    }

    public init(wrappedValue: UInt64?) { count = wrappedValue.map { min($0, GuestCount.most) } }
}
