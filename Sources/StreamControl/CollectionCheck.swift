import Errors
import Foundation

extension StreamCollection {
    /// Of a queue: one container may have a quarter of it, and what one write makes of it comes in pieces of 64 KiB.
    public static let queueRange: ClosedRange<UInt64> = (1 << 20)...(1 << 30)
    /// Milliseconds.
    public static let timeoutRange: ClosedRange<UInt64> = 1...3_600_000
    /// sun_path, unix(7), with its final zero.
    private static let longestSocket = 107

    /// - Throws: `.invalidArgument` naming the field, as the configuration has it, whose value cannot be used.
    public func check() throws {
        guard socket.isEmpty || (socket.hasPrefix("/") && socket.utf8.count <= Self.longestSocket && !socket.utf8.contains(0)) else {
            throw refusal("socket", socket, "no absolute path of at most \(Self.longestSocket) bytes")
        }
        if !otlpEndpoint.isEmpty { try checkEndpoint() }
        guard otlpAuthorities.isEmpty || (otlpAuthorities.hasPrefix("/") && !otlpAuthorities.utf8.contains(0)) else {
            throw refusal("otlp_ca", otlpAuthorities, "no absolute path")
        }
        guard otlpAuthorities.isEmpty || otlpEndpoint.lowercased().hasPrefix("https:") else {
            throw refusal("otlp_ca", otlpAuthorities, "of no use without an otlp_endpoint of https")
        }
        guard otlpTimeout == 0 || Self.timeoutRange.contains(otlpTimeout) else {
            throw refusal("otlp_timeout", "\(otlpTimeout)ms", "not within 1ms and 1h")
        }
        guard queueBytes == 0 || Self.queueRange.contains(queueBytes) else {
            throw refusal("queue_bytes", "\(queueBytes)", "not within \(Self.queueRange.lowerBound) and \(Self.queueRange.upperBound)")
        }
    }

    private func checkEndpoint() throws {
        guard let url = URLComponents(string: otlpEndpoint), ["http", "https"].contains(url.scheme?.lowercased()),
            url.host?.isEmpty == false
        else { throw refusal("otlp_endpoint", otlpEndpoint, "no URL such as http://localhost:4318") }
        // A password is not for messages.
        guard url.user == nil, url.password == nil else { throw refusal("otlp_endpoint", "https://…@…", "a URL with a user") }
        guard url.query == nil, url.fragment == nil else {
            throw refusal("otlp_endpoint", otlpEndpoint, "more than a scheme, a host, a port and a path")
        }
        guard url.port.map({ (1...65535).contains($0) }) ?? true else { throw refusal("otlp_endpoint", otlpEndpoint, "without a port") }
    }

    private func refusal(_ field: String, _ value: String, _ why: String) -> SwiftletError {
        SwiftletError(.invalidArgument, "\(field) = \(quoted(value)) is \(why)")
    }
}
