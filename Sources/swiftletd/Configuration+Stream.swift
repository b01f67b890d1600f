import Errors
import StreamControl

extension Configuration {
    /// How swiftlet-streamd is reached and started.
    ///
    /// - Throws: `.invalidArgument` naming the key whose value cannot be used.
    func streamDaemon() throws -> StreamDaemon.Configuration {
        do {
            _ = try SessionAddress.checked(stream.address, certificate: stream.certificate, key: stream.key)
        } catch {
            throw SwiftletError.wrap(error, "stream.address, stream.tls_certificate, stream.tls_key")
        }
        let sessions = try StreamConfigureRequest.with {
            ($0.address, $0.certificate, $0.key) = (stream.address, stream.certificate, stream.key)
            $0.containerSessions = try Self.count(stream.containerSessions, "stream.sessions_per_container")
            $0.podSessions = try Self.count(stream.podSessions, "stream.sessions_per_pod")
            $0.nodeSessions = try Self.count(stream.nodeSessions, "stream.sessions")
            $0.streamCreationTimeout = try Self.milliseconds(stream.creationTimeout, "stream.creation_timeout")
            $0.idleTimeout = try Self.milliseconds(stream.idleTimeout, "stream.idle_timeout")
            if let collection = try collection() { $0.collection = collection }
        }
        var configuration = StreamDaemon.Configuration(
            binary: stream.daemon.isEmpty ? Self.besideDaemon("swiftlet-streamd") : stream.daemon, controlSocket: run + "/streamd.sock",
            sessions: sessions, positions: root + "/containers", log: run + "/streamd.log")
        configuration.rotatesLogs = try logRotation() != nil
        return configuration
    }

    private static func count(_ number: Int, _ key: String) throws -> UInt32 {
        guard (1...3000).contains(number) else { throw SwiftletError(.invalidArgument, "\(key) = \(number) is not within 1 and 3000") }
        return UInt32(number)
    }

    private static func milliseconds(_ text: String, _ key: String) throws -> UInt64 {
        guard let seconds = DurationText.seconds(text), seconds >= 0.001, seconds <= 365 * 24 * 3600 else {
            throw SwiftletError(.invalidArgument, "\(key) = \(quoted(text)) is no duration between 1ms and a year, such as 30s or 4h")
        }
        return UInt64(seconds * 1000)
    }
}
