import Glibc

/// What stands behind a log's name and a dot in the names of its earlier files: `YYYYMMDD-HHMMSS` in local time, as the kubelet has it,
/// with `.gz` where it has compressed the file (container_log_manager.go). Files that are renamed here have `_NNN` in between: the kubelet,
/// whose rename(2) replaces what has the name, never takes one of these.
///
/// The order of the names is the order of the files, also to the kubelet, which sorts them.
struct RotatedLogName: Comparable {
    /// Without `.gz`.
    let stamp: String
    private let isCompressed: Bool

    /// Whether it was given here, and not by the kubelet.
    var isOwn: Bool { stamp.contains("_") }

    var text: String { isCompressed ? stamp + Self.compressed : stamp }

    private static let compressed = ".gz"

    /// - Parameter suffix: what stands behind the log's name and the dot.
    /// - Returns: nil for what is no file of the log's.
    init?(_ suffix: String) {
        isCompressed = suffix.hasSuffix(Self.compressed)
        stamp = isCompressed ? String(suffix.dropLast(Self.compressed.count)) : suffix
        guard stamp.wholeMatch(of: /[0-9]{8}-[0-9]{6}(_[0-9]{3,18})?/) != nil else { return nil }
    }

    static func < (left: RotatedLogName, right: RotatedLogName) -> Bool { left.stamp < right.stamp }

    /// A name behind all of these, whatever the clock says.
    ///
    /// - Parameter time: ``localTime()``.
    static func stamp(after names: [RotatedLogName], at time: String) -> String {
        let first = time + "_000"
        guard let last = names.max()?.stamp, last >= first else { return first }
        let parts = last.split(separator: "_")
        guard parts.count == 2, let number = UInt64(parts[1]) else { return last + "_000" }
        // One more digit keeps the order where they run out.
        guard parts[1].contains(where: { $0 != "9" }) else { return last + "0" }
        let digits = String(number + 1)
        return "\(parts[0])_" + String(repeating: "0", count: parts[1].count - digits.count) + digits
    }

    /// `YYYYMMDD-HHMMSS`, now.
    static func localTime() -> String {
        var (now, parts) = (time(nil), tm())
        localtime_r(&now, &parts)
        var text = [CChar](repeating: 0, count: 32)
        strftime(&text, text.count, "%Y%m%d-%H%M%S", &parts)
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
