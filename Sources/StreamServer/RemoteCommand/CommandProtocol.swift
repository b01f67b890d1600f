/// The versions of remotecommand's protocol (k8s.io/apimachinery, remotecommand/constants.go).
enum CommandProtocol: String, Sendable {
    case v1 = "channel.k8s.io"
    case v2 = "v2.channel.k8s.io"
    case v3 = "v3.channel.k8s.io"
    case v4 = "v4.channel.k8s.io"
    case v5 = "v5.channel.k8s.io"

    /// What a server of SPDY offers, the best first.
    static let overSPDY: [CommandProtocol] = [.v4, .v3, .v2, .v1]

    /// A terminal's size has a stream of its own.
    var canResize: Bool { self != .v1 && self != .v2 }
    /// How it ended is said by a Status document, not in words.
    var hasStatus: Bool { self == .v4 || self == .v5 }
}

/// The streams of a command, by the header `streamType` or, over WebSocket, by number.
enum CommandStream: String, Sendable, CaseIterable {
    case stdin, stdout, stderr, error, resize

    /// The channel's number in WebSocket messages.
    var channel: UInt8 {
        switch self {
        case .stdin: 0
        case .stdout: 1
        case .stderr: 2
        case .error: 3
        case .resize: 4
        }
    }

    /// What a client of that version opens for these streams.
    static func expected(_ streams: StreamSet, _ version: CommandProtocol) -> Set<CommandStream> {
        var expected: Set<CommandStream> = [.error]
        if streams.stdin { expected.insert(.stdin) }
        if streams.stdout { expected.insert(.stdout) }
        if streams.stderr { expected.insert(.stderr) }
        if streams.tty, version.canResize { expected.insert(.resize) }
        return expected
    }
}
