import Foundation
import Glibc

/// A command for the agent.
struct AgentRequest: Sendable {
    enum Argument: Sendable, Encodable {
        case number(Int)
        case flag(Bool)
        case text(String)
        case texts([String])

        func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            switch self {
            case .number(let number): try container.encode(number)
            case .flag(let flag): try container.encode(flag)
            case .text(let text): try container.encode(text)
            case .texts(let texts): try container.encode(texts)
            }
        }
    }

    private struct Message: Encodable {
        var execute: String
        var arguments: [String: Argument]
    }

    let command: String
    let bytes: [UInt8]
    /// Whether the reply holds what a process has written.
    var hasOutput: Bool { command == "guest-exec-status" }

    init(_ command: String, _ arguments: [String: Argument] = [:]) {
        self.command = command
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Text, numbers and flags are all that there is: it cannot fail.
        let data = (try? encoder.encode(Message(execute: command, arguments: arguments))) ?? Data()
        bytes = Array(data) + [UInt8(ascii: "\n")]
    }
}

/// What the agent answers: `{"return": …}` or `{"error": {"class": …, "desc": …}}`.
struct AgentReply<Value: Decodable>: Decodable {
    var value: Value?
    var failure: String?

    private enum Key: String, CodingKey {
        case value = "return"
        case error
    }
    private struct Failure: Decodable { var desc: String }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        failure = try container.decodeIfPresent(Failure.self, forKey: .error)?.desc
        value = failure == nil ? try container.decode(Value.self, forKey: .value) : nil
    }

    /// No command that is sent has so many.
    private static var mostElements: Int { 1000 }

    /// Whether it has few brackets and commas outside of strings.
    static func isFlat(_ bytes: [UInt8]) -> Bool {
        bytes.withUnsafeBufferPointer { bytes in
            var (index, elements) = (0, 0)
            while index < bytes.count {
                switch bytes[index] {
                case UInt8(ascii: "["), UInt8(ascii: "{"), UInt8(ascii: ","):
                    elements += 1
                    guard elements <= mostElements else { return false }
                case UInt8(ascii: "\""): index = end(ofStringAt: index, bytes)
                default: break
                }
                index += 1
            }
            return true
        }
    }

    /// The index of its closing quotation mark; the count of bytes where it has none.
    private static func end(ofStringAt start: Int, _ bytes: UnsafeBufferPointer<UInt8>) -> Int {
        var from = start + 1
        while from < bytes.count, let base = bytes.baseAddress, let found = memchr(base + from, 0x22, bytes.count - from) {
            let mark = UnsafeRawPointer(base).distance(to: UnsafeRawPointer(found))
            var escapes = 0
            while mark - escapes > from, bytes[mark - escapes - 1] == UInt8(ascii: "\\") { escapes += 1 }
            if escapes.isMultiple(of: 2) { return mark }
            from = mark + 1
        }
        return bytes.count
    }
}

/// A reply without anything in it.
struct AgentNothing: Decodable {}

struct AgentProcess: Decodable { var pid: Int }

/// Of guest-exec-status.
struct AgentProcessStatus: Decodable {
    var exited: Bool
    var exitcode: Int?
    var signal: Int?
    /// Base64 in the reply.
    var output: Data?
    var errorOutput: Data?
    var outputCut: Bool?
    var errorOutputCut: Bool?

    private enum CodingKeys: String, CodingKey {
        case exited, exitcode, signal
        case output = "out-data"
        case errorOutput = "err-data"
        case outputCut = "out-truncated"
        case errorOutputCut = "err-truncated"
    }
}
