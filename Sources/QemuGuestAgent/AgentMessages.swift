import Foundation

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
}

/// A reply without anything in it.
struct AgentNothing: Decodable {}

struct AgentProcess: Decodable { var pid: Int }

/// Of guest-exec-status.
struct AgentProcessStatus: Decodable {
    var exited: Bool
    var exitcode: Int?
    var signal: Int?
    var output: String?
    var errorOutput: String?
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
