import Errors
import LogCollection
import StreamControl

extension CollectionConfiguration {
    /// As swiftletd has said it.
    ///
    /// - Throws: `.invalidArgument` naming what cannot be.
    init(_ request: StreamCollection) throws {
        try request.check()
        self.init()
        if !request.socket.isEmpty { socket = request.socket }
        if request.queueBytes > 0 { queueBytes = Int(request.queueBytes) }
        guard !request.otlpEndpoint.isEmpty else { return }
        var otlp = OTLPConfiguration(endpoint: request.otlpEndpoint, compresses: request.otlpGzip)
        if !request.otlpAuthorities.isEmpty { otlp.authorities = request.otlpAuthorities }
        if request.otlpTimeout > 0 { otlp.timeout = .milliseconds(Int64(request.otlpTimeout)) }
        self.otlp = otlp
    }
}

extension StreamCollector {
    init(_ state: CollectorState) {
        self.init()
        (kind, failure) = (state.kind, state.failure ?? "")
        (sentLines, droppedLines) = (UInt64(state.sentLines), UInt64(state.droppedLines))
    }
}
