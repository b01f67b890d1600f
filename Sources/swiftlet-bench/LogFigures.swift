/// Containers that write lines as fast as they can, over some seconds.
struct LogFigures {
    var containers: Int
    /// Bytes that came to the log files.
    var bytes: UInt64
    var time: Duration
    /// Seconds of processor time, by program.
    var processorTime: [String: Double]

    /// 10^6 bytes a second.
    var rate: Double { Double(bytes) / 1e6 / (time.milliseconds / 1000) }

    /// Seconds of processor time that the programs took for 10^8 bytes; nil when nothing was written.
    func processorTime(of programs: [String]) -> Double? {
        guard bytes > 0 else { return nil }
        return programs.reduce(0) { $0 + processorTime[$1, default: 0] } / (Double(bytes) / 1e8)
    }
}
