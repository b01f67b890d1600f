import Runtime

/// Lines of logs as a request of OTLP in its JSON encoding (opentelemetry-proto, docs/specification.md, "JSON Protobuf Encoding"):
/// resources by the semantic conventions of Kubernetes, records as the OpenTelemetry collector's container parser makes them.
struct OTLPRequest {
    private struct Resource {
        let container: CollectedContainer?
        var records = JSONText()
    }

    private var reader = LogLineReader()
    private var clock = RecordTime()
    private let version: String

    /// - Parameter version: of what sends it.
    init(version: String) { self.version = version }

    mutating func encode(_ pieces: [CollectedPiece]) -> [UInt8] {
        var order: [UInt64: Int] = [:]
        var resources: [Resource] = []
        for piece in pieces {
            // Numbers begin at 1.
            let number = piece.container?.number ?? 0
            let index = order[number] ?? resources.count
            if index == resources.count {
                order[number] = index
                resources.append(Resource(container: piece.container))
            }
            switch piece.content {
            case .lines(let lines):
                guard let owner = piece.container else { continue }
                reader.read(lines, of: owner) { Self.write($0, to: &resources[index].records) }
            case .gap(let dropped):
                if let owner = piece.container { reader.skip(owner) }
                Self.write(dropped, clock.now(), to: &resources[index].records)
            }
        }
        var json = JSONText()
        json.raw("{\"resourceLogs\":[")
        for (index, resource) in resources.enumerated() {
            if index > 0 { json.raw(",") }
            json.raw("{\"resource\":{\"attributes\":[")
            Self.write(resource.container, to: &json)
            json.raw("]},\"scopeLogs\":[{\"scope\":{\"name\":\"swiftlet\",\"version\":")
            json.string(version)
            json.raw("},\"logRecords\":[")
            json.raw(resource.records.bytes)
            json.raw("]}]}")
        }
        json.raw("]}")
        return json.bytes
    }

    private static func write(_ container: CollectedContainer?, to json: inout JSONText) {
        guard let container else { return }
        if let names = container.names {
            for (name, value) in [
                ("k8s.namespace.name", names.namespace), ("k8s.pod.name", names.pod), ("k8s.pod.uid", names.podUID),
                ("k8s.container.name", names.container),
            ] {
                attribute(name, value, to: &json)
                json.raw(",")
            }
            attribute("k8s.container.restart_count", Int(names.attempt), to: &json)
            json.raw(",")
        }
        attribute("container.id", container.id, to: &json)
    }

    private static func write(_ line: LogLine, to records: inout JSONText) {
        begin(line.time, line.text, to: &records)
        attribute("log.iostream", line.stream, to: &records)
        records.raw(",")
        attribute("logtag", line.tag, to: &records)
        records.raw("]}")
    }

    private static func write(_ dropped: DroppedLines, _ time: String, to records: inout JSONText) {
        begin(time, dropped.text, to: &records)
        attribute("logtag", "F:dropped", to: &records)
        records.raw(",")
        attribute("swiftlet.dropped_lines", dropped.lines, to: &records)
        records.raw(",")
        attribute("swiftlet.dropped_bytes", dropped.bytes, to: &records)
        records.raw("]}")
    }

    /// A record up to its attributes. Numbers of 64 bits are strings in this encoding.
    private static func begin(_ time: String, _ body: String, to records: inout JSONText) {
        if !records.bytes.isEmpty { records.raw(",") }
        records.raw("{\"timeUnixNano\":")
        records.string("\(RecordTime.nanoseconds(time) ?? 0)")
        records.raw(",\"body\":{\"stringValue\":")
        records.string(body)
        records.raw("},\"attributes\":[")
    }

    private static func attribute(_ name: String, _ value: String, to json: inout JSONText) {
        json.raw("{\"key\":")
        json.string(name)
        json.raw(",\"value\":{\"stringValue\":")
        json.string(value)
        json.raw("}}")
    }

    private static func attribute(_ name: String, _ value: Int, to json: inout JSONText) {
        json.raw("{\"key\":")
        json.string(name)
        json.raw(",\"value\":{\"intValue\":")
        json.string("\(value)")
        json.raw("}}")
    }
}
