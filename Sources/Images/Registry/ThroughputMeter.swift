import DequeModule

/// Tells downloads that trickle from those that are only slow. Pure: knows no clock.
///
/// The downloads of one pull count together, for they share its line to the registry, and each of many small layers would end before
/// it was judged. Time in which none is under way, but layers wait for a place or are converted, does not count.
struct ThroughputMeter {
    private let least: LeastThroughput
    /// Readings at the beginning of the window and since, by the time that counts.
    private var readings: Deque<(at: Duration, bytes: UInt64)> = [(.zero, 0)]
    private var bytes: UInt64 = 0
    private var underWay = 0
    /// Time with a download under way, up to `last`.
    private var counted = Duration.zero
    private var last = Duration.zero

    init(_ least: LeastThroughput) {
        self.least = least
    }

    /// A download has begun. Times are those since any start, and not less than at the last call.
    mutating func begin(at now: Duration) {
        advance(to: now)
        underWay += 1
    }

    mutating func end(at now: Duration) {
        advance(to: now)
        underWay -= 1
    }

    mutating func add(_ count: Int) {
        bytes += UInt64(count)
    }

    /// Takes a reading, and returns how many bytes came in the last window if they are too few.
    mutating func shortfall(at now: Duration) -> UInt64? {
        advance(to: now)
        let begin = counted - least.window
        readings.append((counted, bytes))
        guard begin >= least.grace else { return nil }
        // The latest reading that the whole window lies behind stands for its beginning.
        if let first = readings.lastIndex(where: { $0.at <= begin }) { readings.removeFirst(first) }
        let received = bytes - readings[0].bytes
        return received < least.bytes ? received : nil
    }

    private mutating func advance(to now: Duration) {
        if underWay > 0 { counted += now - last }
        last = now
    }
}
