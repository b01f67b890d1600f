import Errors
import StreamControl

extension Configuration {
    /// How swiftlet-streamd is reached and started; nil when clients open no sessions here.
    ///
    /// - Throws: `.invalidArgument` for an address that other nodes could reach.
    func streamDaemon() throws -> StreamDaemon.Configuration? {
        guard !stream.address.isEmpty else { return nil }
        do {
            _ = try SessionAddress(parsing: stream.address)
        } catch {
            throw SwiftletError.wrap(error, "stream.address")
        }
        return StreamDaemon.Configuration(
            binary: stream.daemon.isEmpty ? Self.besideDaemon("swiftlet-streamd") : stream.daemon, controlSocket: run + "/streamd.sock",
            address: stream.address, log: run + "/streamd.log")
    }
}
