import Foundation
import Runtime

@testable import LogCollection

let names = ContainerNames(namespace: "shop", pod: "web-0", podUID: "11-22", container: "app", attempt: 3)

/// Lines of the CRI log format.
func lines(_ texts: [String], stream: String = "stdout", tag: String = "F") -> [UInt8] {
    texts.flatMap { Array("2026-01-02T03:04:05.000000006Z \(stream) \(tag) \($0)\n".utf8) }
}

func container(_ id: String = "c", _ names: ContainerNames? = names) -> CollectedContainer { CollectedContainer(id: id, names: names) }

func piece(_ bytes: [UInt8], _ container: CollectedContainer) -> CollectedPiece {
    CollectedPiece(container: container, content: .lines(bytes))
}

func json(_ bytes: some Sequence<UInt8>) throws -> [String: Any] {
    try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any] ?? [:]
}

extension [CollectedPiece] {
    /// The texts of lines, and how many lines are missing where.
    var summary: [String] {
        flatMap { piece -> [String] in
            switch piece.content {
            case .lines(let lines):
                String(decoding: lines, as: UTF8.self).split(separator: "\n").map { String($0.split(separator: " ").last ?? "") }
            case .gap(let dropped): ["\(piece.container?.id ?? "others") -\(dropped.lines)"]
            }
        }
    }
}
