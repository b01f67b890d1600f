import CRI
import Foundation
import SwiftProtobuf
import Testing

/// Everything a .proto file declares, one tab-separated row each, in the form of Golden/cri-v1-fields.tsv.
private func declarations(_ file: String) throws -> Set<String> {
    var rows: Set<String> = []
    var scope: [String] = []
    for line in try protoText(file).split(separator: "\n") {
        let text = line.trimmingCharacters(in: .whitespaces).replacingOccurrences(of: ", ", with: ",")
        let words = text.split { " (){;".contains($0) }.map(String.init)
        switch words.first {
        case nil, "syntax", "package", "option", "rpc": continue
        case "service": scope.append("")
        case "}": scope.removeLast()
        case "message", "enum":
            let name = (scope.filter { !$0.isEmpty } + [words[1]]).joined(separator: ".")
            rows.insert("\(words[0])\t\(name)")
            if !text.hasSuffix("}") { scope.append(words[1]) }
        default: rows.insert(row(words, in: scope.joined(separator: ".")))
        }
    }
    return rows
}

/// A field or a value, qualified by what declares it.
private func row(_ words: [String], in scope: String) -> String {
    guard let equals = words.firstIndex(of: "="), equals + 1 < words.count else { return "unparsed\t\(words)" }
    let (name, number) = (words[equals - 1], words[equals + 1])
    guard equals > 1 else { return "value\t\(scope)\t\(number)\t\(name)" }
    let type = words[equals - 2]
    let label = equals > 2 ? words[equals - 3] : ""
    let deprecated = words.contains("[deprecated") ? "deprecated" : ""
    return "field\t\(scope)\t\(number)\t\(name)\t\(type)\t\(label)\t\(deprecated)"
}

/// The interface's published table in the same form.
private func publishedTable() throws -> Set<String> {
    let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Golden/cri-v1-fields.tsv")
    var rows: Set<String> = []
    var scope = ""
    for line in try String(contentsOf: path, encoding: .utf8).split(separator: "\n") {
        let columns = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
        switch columns[0] {
        case "message", "enum":
            scope = columns[1]
            rows.insert("\(columns[0])\t\(scope)")
        case "value": rows.insert("value\t\(scope)\t\(columns[1])\t\(columns[2])")
        case "field":
            let label = columns.count > 4 ? columns[4] : ""
            let deprecated = columns.contains("deprecated") ? "deprecated" : ""
            // A nested type is named from inside its message.
            let type = columns[3].hasPrefix(scope + ".") ? String(columns[3].dropFirst(scope.count + 1)) : columns[3]
            rows.insert("field\t\(scope)\t\(columns[1])\t\(columns[2])\t\(type)\t\(label)\t\(deprecated)")
        default: continue
        }
    }
    return rows
}

@Suite struct FieldTableTests {
    @Test func everyMessageFieldAndValueIsTheInterfaces() throws {
        let (declared, published) = (try declarations("runtime/v1/api.proto"), try publishedTable())
        #expect(declared.subtracting(published).sorted() == [])
        #expect(published.subtracting(declared).sorted() == [])
        #expect(published.count == 175 + 478 + 11 + 95)
    }

    /// Bytes as any other implementation writes them: field 4 of PodSandboxMetadata is a varint, field 2 of ContainerConfig a message.
    @Test func theGeneratedSwiftSpeaksTheInterfacesWireFormat() throws {
        var config = CRIPodSandboxConfig()
        config.metadata = .with {
            $0.name = "a"
            $0.attempt = 3
        }
        config.linux.sysctls = ["k": "v"]
        let bytes: [UInt8] = try config.serializedBytes()
        #expect(
            bytes == [
                0x0a, 5, 0x0a, 1, UInt8(ascii: "a"), 0x20, 3,
                0x42, 8, 0x1a, 6, 0x0a, 1, UInt8(ascii: "k"), 0x12, 1, UInt8(ascii: "v"),
            ])
        #expect(try CRIPodSandboxConfig(serializedBytes: bytes) == config)
    }

    @Test func unknownFieldsOfANewerClientSurviveAndUnknownEnumValuesDecode() throws {
        let status = try CRIPodSandboxStatus(serializedBytes: [0x18, 9, 0xa2, 0x06, 1, 7] as [UInt8])
        #expect(status.state == .UNRECOGNIZED(9))
        #expect(try status.serializedBytes() as [UInt8] == [0x18, 9, 0xa2, 0x06, 1, 7])
    }
}
