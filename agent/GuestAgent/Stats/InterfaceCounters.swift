import AgentProtocol

/// The traffic of the guest's network interfaces, as /proc/net/dev counts it (proc(5)).
enum InterfaceCounters {
    /// Interfaces that are reported; a container with the right to may make any number.
    private static let most = 64

    static func read(_ path: String = "/proc/self/net/dev") -> [AgentInterfaceStats] {
        parse(Files.text(path, limit: 64 << 10) ?? "")
    }

    /// Two lines of headings, then "  eth0: " and 16 numbers: 8 of what was received, 8 of what was sent.
    static func parse(_ text: String) -> [AgentInterfaceStats] {
        let interfaces = text.split(separator: "\n").dropFirst(2).lazy.compactMap { line -> AgentInterfaceStats? in
            guard let colon = line.utf8.lastIndex(of: UInt8(ascii: ":")) else { return nil }
            let name = line[..<colon].drop { $0 == " " }
            let numbers = line[line.index(after: colon)...].split(separator: " ").map { UInt64($0) ?? 0 }
            guard numbers.count >= 16, name != "lo" else { return nil }
            return .with {
                $0.name = String(name)
                ($0.rxBytes, $0.rxPackets, $0.rxErrors, $0.rxDropped) = (numbers[0], numbers[1], numbers[2], numbers[3])
                ($0.txBytes, $0.txPackets, $0.txErrors, $0.txDropped) = (numbers[8], numbers[9], numbers[10], numbers[11])
            }
        }
        return Array(interfaces.prefix(most))
    }
}
