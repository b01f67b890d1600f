import Errors

/// Signals by the names that images and the CRI use (signal(7), Linux on x86-64).
public enum SignalName {
    private static let numbers: [String: Int32] = [
        "ABRT": 6, "ALRM": 14, "BUS": 7, "CHLD": 17, "CLD": 17, "CONT": 18, "FPE": 8, "HUP": 1, "ILL": 4, "INT": 2, "IO": 29,
        "IOT": 6, "KILL": 9, "PIPE": 13, "POLL": 29, "PROF": 27, "PWR": 30, "QUIT": 3, "SEGV": 11, "STKFLT": 16, "STOP": 19,
        "SYS": 31, "TERM": 15, "TRAP": 5, "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "USR1": 10, "USR2": 12, "VTALRM": 26,
        "WINCH": 28, "XCPU": 24, "XFSZ": 25,
    ]
    /// The first real-time signal that programs get (glibc keeps 32 and 33) and the last.
    private static let realTime: ClosedRange<Int32> = 34...64

    /// Understands "SIGTERM", "TERM", "15", "SIGRTMIN+3" and "RTMAX-1".
    ///
    /// - Throws: `.invalidArgument` for an unknown signal.
    public static func number(of text: String) throws -> Int32 {
        let name = text.uppercased()
        let bare = name.hasPrefix("SIG") ? String(name.dropFirst(3)) : name
        if let number = Int32(bare), (1...realTime.upperBound).contains(number) { return number }
        if let number = numbers[bare] { return number }
        if bare == "RTMIN" { return realTime.lowerBound }
        if bare == "RTMAX" { return realTime.upperBound }
        if bare.hasPrefix("RTMIN+"), let offset = Int32(bare.dropFirst(6)), offset >= 0, realTime.contains(realTime.lowerBound + offset) {
            return realTime.lowerBound + offset
        }
        if bare.hasPrefix("RTMAX-"), let offset = Int32(bare.dropFirst(6)), offset >= 0, realTime.contains(realTime.upperBound - offset) {
            return realTime.upperBound - offset
        }
        throw SwiftletError(.invalidArgument, "stop signal \(quoted(text)) is unknown")
    }
}
