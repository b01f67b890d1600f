import ArgumentParser
import Errors
import GRPC
import Glibc

/// How swiftletd is reached.
struct ConnectionOptions: ParsableArguments {
    static let defaultEndpoint = "unix:///run/swiftlet/swiftletd.sock"
    static let endpointHelp = ArgumentHelp(
        "swiftletd's socket. (default: $SWIFTLET_ENDPOINT, or \(defaultEndpoint))", valueName: "address")

    @Option(help: endpointHelp)
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

/// The same for a command whose last arguments are another program's. Its parent's parser leaves all that follows the command's name
/// alone, the options that both have as well.
struct OwnConnectionOptions: ParsableArguments {
    @Option(help: ConnectionOptions.endpointHelp)
    var endpoint: String?

    @Option(help: ArgumentHelp("How long the command may run: 30s, 2m. (default: without limit)", valueName: "duration"))
    var timeout: TimeSpan?

    /// With those that stand before the command's name.
    func with(_ parents: ConnectionOptions) -> ConnectionOptions {
        var options = parents
        options.endpoint = endpoint ?? parents.endpoint
        options.timeout = timeout ?? parents.timeout
        return options
    }
}

/// A duration on the command line: a number of seconds, or numbers with the units ms, s, m and h: 1h30m.
struct TimeSpan: ExpressibleByArgument, Equatable, Sendable {
    let duration: Duration

    init?(argument: String) {
        var (rest, seconds) = (argument[...], 0.0)
        repeat {
            let digits = rest.prefix { $0.isASCII && $0.isNumber || $0 == "." }
            rest = rest.dropFirst(digits.count)
            let unit = rest.prefix { $0.isLetter }
            rest = rest.dropFirst(unit.count)
            guard let number = Double(digits), let scale = Self.scale(unit, isAlone: digits.count == argument.count) else { return nil }
            seconds += number * scale
        } while !rest.isEmpty
        guard seconds > 0, seconds < 1e10 else { return nil }
        duration = .milliseconds(Int64((seconds * 1000).rounded(.up)))
    }

    private static func scale(_ unit: Substring, isAlone: Bool) -> Double? {
        switch unit {
        case "ms": 0.001
        case "s": 1
        case "m": 60
        case "h": 3600
        case "" where isAlone: 1
        default: nil
        }
    }
}
