import Foundation
import Runtime

@testable import LogCollection
@testable import Logs

/// What a container writes, on its way to collectors: the first byte says how the rest is cut into writes of both streams.
enum CollectionFuzz {
    static func collection(_ bytes: [UInt8]) {
        guard let first = bytes.first else { return }
        let lines = lines(bytes.dropFirst(), size: Int(first) * 64 + 1)
        let names = ContainerNames(namespace: "n", pod: "p", podUID: "u", container: "c", attempt: 0)
        let owner = CollectedContainer(id: "c", names: names)
        let pieces = lines.pieces(of: 1 << 16).map { CollectedPiece(container: owner, content: .lines($0)) }
        var (json, otlp) = (JSONLines(), OTLPRequest(version: "0"))
        let records = json.encode(pieces).split(separator: 0x0A, omittingEmptySubsequences: false).dropLast()
        precondition(records.count == lines.lineCount, "a record a line")
        let texts = records.map { record -> String in
            precondition(record.count <= 102_400, "as long as a collector takes")
            let object = (try? JSONSerialization.jsonObject(with: Data(record))) as? [String: Any]
            guard let text = object?["log"] as? String else { preconditionFailure("a record is JSON") }
            return text
        }
        let request = (try? JSONSerialization.jsonObject(with: Data(otlp.encode(pieces)))) as? [String: Any]
        let resources = request?["resourceLogs"] as? [[String: Any]] ?? []
        let scopes = resources.flatMap { $0["scopeLogs"] as? [[String: Any]] ?? [] }
        let bodies = scopes.flatMap { $0["logRecords"] as? [[String: Any]] ?? [] }.map {
            ($0["body"] as? [String: String])?["stringValue"] ?? ""
        }
        precondition(bodies == texts, "both say the same")
    }

    /// As the log has them.
    private static func lines(_ bytes: ArraySlice<UInt8>, size: Int) -> [UInt8] {
        var encoders = [LogLineEncoder(source: .stdout), LogLineEncoder(source: .stderr)]
        let time = Array("2026-01-02T03:04:05.000000006Z".utf8)
        var (lines, rest, turn) = ([UInt8](), bytes, 0)
        while !rest.isEmpty {
            rest.prefix(size).withUnsafeBytes { encoders[turn % 2].append($0, timestamp: time, to: &lines) }
            rest = rest.dropFirst(size)
            turn += 1
        }
        for index in encoders.indices { encoders[index].finish(timestamp: time, to: &lines) }
        return lines
    }
}
