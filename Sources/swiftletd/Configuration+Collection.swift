import Errors
import StreamControl

extension Configuration.Logs.Collection {
    var isConfigured: Bool { !socket.isEmpty || !otlpEndpoint.isEmpty }
}

extension Configuration {
    /// Where the lines of logs go beside their files; nil: nowhere.
    ///
    /// - Throws: `.invalidArgument` naming the key whose value cannot be used.
    func collection() throws -> StreamCollection? {
        let keys = logs.collection
        guard ["none", "gzip"].contains(keys.otlpCompression) else {
            throw refusal("otlp_compression", quoted(keys.otlpCompression), "neither none nor gzip")
        }
        guard let seconds = DurationText.seconds(keys.otlpTimeout), seconds >= 0.001, seconds <= 3600 else {
            throw refusal("otlp_timeout", quoted(keys.otlpTimeout), "no duration within 1ms and 1h, such as 10s")
        }
        // 0 is the default in a message.
        guard let queue = UInt64(exactly: keys.queueBytes), queue > 0 else {
            throw refusal("queue_bytes", "\(keys.queueBytes)", "not positive")
        }
        let collection = StreamCollection.with {
            ($0.socket, $0.otlpEndpoint, $0.otlpAuthorities) = (keys.socket, keys.otlpEndpoint, keys.otlpAuthorities)
            ($0.otlpTimeout, $0.otlpGzip, $0.queueBytes) = (UInt64(seconds * 1000), keys.otlpCompression == "gzip", queue)
        }
        do { try collection.check() } catch let error as SwiftletError {
            throw SwiftletError(.invalidArgument, "logs.collection.\(error.message)")
        }
        return keys.isConfigured ? collection : nil
    }

    private func refusal(_ key: String, _ value: String, _ why: String) -> SwiftletError {
        SwiftletError(.invalidArgument, "logs.collection.\(key) = \(value) is \(why)")
    }
}
