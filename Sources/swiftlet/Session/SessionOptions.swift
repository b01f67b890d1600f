import ArgumentParser
import StreamClient

/// How a session's URL is connected to.
struct SessionOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Certificates of which one has issued the server's, as PEM, where sessions are served by TLS. (default: the system's)",
            valueName: "file"))
    var tlsCa: String?

    func connector() throws -> SessionConnector { try SessionConnector(authorities: tlsCa) }
}

/// Keys that leave a session.
struct DetachOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Leave the session: keys with commas between them, each a character or ctrl- and a letter or one of @[\\]^_; empty for none.",
            valueName: "keys"))
    var detachKeys = DetachKeys.standard
}
