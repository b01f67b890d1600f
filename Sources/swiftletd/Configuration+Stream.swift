import Errors
import StreamControl

extension Configuration {
    /// How swiftlet-streamd is reached and started.
    ///
    /// - Throws: `.invalidArgument` for an address that other nodes could reach.
    func streamDaemon() throws -> StreamDaemon.Configuration {
        do {
            if !stream.address.isEmpty { _ = try SessionAddress(parsing: stream.address) }
        } catch {
            throw SwiftletError.wrap(error, "stream.address")
        }
        return StreamDaemon.Configuration(
            binary: stream.daemon.isEmpty ? Self.besideDaemon("swiftlet-streamd") : stream.daemon, controlSocket: run + "/streamd.sock",
            address: stream.address, positions: root + "/containers", log: run + "/streamd.log")
    }
}
