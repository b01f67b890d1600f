import ArgumentParser
import Errors
import GRPC
import Glibc

/// How swiftletd is reached.
struct ConnectionOptions: ParsableArguments {
    static let defaultEndpoint = "unix:///run/swiftlet/swiftletd.sock"

    @Option(
        help: ArgumentHelp(
            "swiftletd's socket. (default: $SWIFTLET_ENDPOINT, or \(defaultEndpoint))", valueName: "address"))
    var endpoint: String?

    @Option(help: ArgumentHelp("How long a request may take: 30s, 2m. (default: depends on the request)", valueName: "duration"))
    var timeout: TimeSpan?

    /// - Parameter configured: where swiftletd's configuration says that it serves, for when the user says nothing.
    /// - Throws: `ValidationError` for a malformed address.
    func daemon(else configured: String? = nil) throws -> Daemon {
        Daemon(endpoint: try address(else: configured), timeout: timeout?.duration)
    }

    func address(else configured: String? = nil) throws -> Endpoint {
        let fromEnvironment = getenv("SWIFTLET_ENDPOINT").map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
        do {
            return try Endpoint(parsing: endpoint ?? fromEnvironment ?? configured ?? Self.defaultEndpoint)
        } catch {
            throw ValidationError("\(error)")
        }
    }
}

/// A duration on the command line: a number of seconds, or one with the unit ms, s, m or h.
struct TimeSpan: ExpressibleByArgument, Equatable, Sendable {
    let duration: Duration

    init?(argument: String) {
        let units: [(String, Double)] = [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600)]
        let unit = units.first { argument.hasSuffix($0.0) }
        guard let number = Double(argument.dropLast(unit?.0.count ?? 0)), number > 0, number < 1e7 else { return nil }
        duration = .milliseconds(Int64((number * (unit?.1 ?? 1) * 1000).rounded(.up)))
    }
}
