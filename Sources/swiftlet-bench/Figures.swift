import Foundation

/// Numbers as the tables show them.
enum Figures {
    /// Milliseconds with three significant digits: "0.842", "12.5", "3410".
    static func milliseconds(_ time: Duration?) -> String {
        time.map { threeDigits($0.milliseconds) } ?? missing
    }

    /// 10^6 bytes a second with three significant digits: "7.35", "61.4", "815".
    static func rate(_ value: Double?) -> String {
        value.map(threeDigits) ?? missing
    }

    /// Seconds: "0.412", "3.41".
    static func seconds(_ value: Double?) -> String {
        value.map(threeDigits) ?? missing
    }

    /// "0.42x".
    static func ratio(_ value: Double?) -> String {
        value.map { "\(String(format: "%.2f", $0))x" } ?? missing
    }

    /// MiB with one digit behind the point.
    static func mebibytes(_ bytes: UInt64?) -> String {
        bytes.map { String(format: "%.1f", Double($0) / 1_048_576) } ?? missing
    }

    static let missing = "-"

    private static func threeDigits(_ value: Double) -> String {
        switch value {
        case 99.95...: String(format: "%.0f", value)
        case 9.995...: String(format: "%.1f", value)
        case 0.9995...: String(format: "%.2f", value)
        default: String(format: "%.3f", value)
        }
    }
}
