import Runtime

/// Lines of logs as lines of JSON, with the names that Fluent Bit's CRI parser and Kubernetes filter give them.
///
/// A piece has 16 KiB of content at most, so that a line of JSON is shorter than the 100 KiB that Vector's socket source takes by default,
/// whatever is escaped in it.
struct JSONLines {
    private var reader = LogLineReader()
    private var clock = RecordTime()

    mutating func encode(_ pieces: [CollectedPiece]) -> [UInt8] {
        var json = JSONText()
        for piece in pieces {
            let container = piece.container.map(Self.metadata) ?? []
            switch piece.content {
            case .lines(let lines):
                guard let owner = piece.container else { continue }
                reader.read(lines, of: owner) { line in
                    json.raw("{\"time\":")
                    json.string(line.time)
                    json.raw(",\"stream\":")
                    json.string(line.stream)
                    json.raw(",\"logtag\":")
                    json.string(line.tag)
                    json.raw(",\"log\":")
                    json.string(line.text)
                    json.raw(container)
                    json.raw("}\n")
                }
            case .gap(let dropped):
                if let owner = piece.container { reader.skip(owner) }
                json.raw("{\"time\":")
                json.string(clock.now())
                json.raw(",\"logtag\":\"F:dropped\",\"log\":")
                json.string(dropped.text)
                json.raw(",\"dropped_lines\":")
                json.number(dropped.lines)
                json.raw(",\"dropped_bytes\":")
                json.number(dropped.bytes)
                json.raw(container)
                json.raw("}\n")
            }
        }
        return json.bytes
    }

    private static func metadata(_ container: CollectedContainer) -> [UInt8] {
        var json = JSONText()
        json.raw(",\"kubernetes\":{")
        if let names = container.names {
            json.raw("\"namespace_name\":")
            json.string(names.namespace)
            json.raw(",\"pod_name\":")
            json.string(names.pod)
            json.raw(",\"pod_id\":")
            json.string(names.podUID)
            json.raw(",\"container_name\":")
            json.string(names.container)
            json.raw(",\"attempt\":")
            json.number(Int(names.attempt))
            json.raw(",")
        }
        json.raw("\"container_id\":")
        json.string(container.id)
        json.raw("}")
        return json.bytes
    }
}

extension DroppedLines {
    /// What a record says of them.
    var text: String { "swiftlet: \(lines) lines (\(bytes) bytes of the log) were dropped: the collector did not take them" }
}
