import CRI
import Errors
import Pods
import Runtime

/// The CRI's Signal enum, whose values are an alphabetical list and not the kernel's numbers.
enum SignalMessage {
    private static let byNumber: [Int32: CRISignal] = {
        let pairs = CRISignal.allCases.compactMap { signal in
            (try? SignalName.number(of: systemName(signal))).map { ($0, signal) }
        }
        return Dictionary(pairs) { first, _ in first }
    }()

    /// "SIGTERM", "SIGRTMIN+1"; empty for the runtime's default.
    static func name(of signal: CRISignal) throws -> String {
        switch signal {
        case .runtimeDefault: return ""
        case .UNRECOGNIZED(let value): throw SwiftletError(.invalidArgument, "config.stop_signal: \(value) is no signal")
        default: return systemName(signal)
        }
    }

    static func signal(numbered number: Int32) -> CRISignal {
        byNumber[number] ?? .runtimeDefault
    }

    /// The enum spells SIGRTMIN+1 as SIGRTMINPLUS1.
    private static func systemName(_ signal: CRISignal) -> String {
        "\(signal)".uppercased().replacing("RTMINPLUS", with: "RTMIN+").replacing("RTMAXMINUS", with: "RTMAX-")
    }
}
