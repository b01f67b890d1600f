import Foundation
import Support
import Testing

/// One run of foreign_client.py with the Python of SWIFTLET_PYTHON, or of the virtual environment
/// that scripts/setup makes.
final class ForeignClient: Sendable {
    typealias Answer = [String: JSON]

    /// A value of the client's JSON as text and nothing else: enough to compare.
    struct JSON: Decodable, CustomStringConvertible, Equatable, ExpressibleByStringLiteral {
        let description: String

        init(stringLiteral value: String) { description = value }

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let text = try? container.decode(String.self) {
                description = text
            } else if let flag = try? container.decode(Bool.self) {
                description = "\(flag)"
            } else if let number = try? container.decode(Double.self) {
                description = number == number.rounded() ? "\(Int(number))" : "\(number)"
            } else {
                description = try container.decode([String].self).joined(separator: " ")
            }
        }
    }

    let process: ChildProcess
    let answers: AsyncThrowingStream<Answer, any Error>
    private let ended: AsyncStream<Int32>

    init(_ arguments: [String]) throws {
        try #require(
            FileManager.default.isExecutableFile(atPath: Self.python),
            "no Python with grpcio at \(Self.python): run scripts/setup or set SWIFTLET_PYTHON")
        let process = ChildProcess()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: Self.python)
        process.arguments = [URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/foreign_client.py"] + arguments
        process.standardOutput = output
        let (ended, end) = AsyncStream.makeStream(of: Int32.self)
        process.terminationHandler = {
            end.yield($0.terminationStatus)
            end.finish()
        }
        self.process = process
        self.ended = ended
        answers = AsyncThrowingStream { stream in
            // Reads on a thread of its own: blocking reads stay off the cooperative pool.
            Thread.detachNewThread {
                var pending = Data()
                while case let data = output.fileHandleForReading.availableData, !data.isEmpty {
                    pending.append(data)
                    while let newline = pending.firstIndex(of: 10) {
                        do { stream.yield(try JSONDecoder().decode(Answer.self, from: pending[..<newline])) } catch {
                            stream.finish(throwing: error)
                        }
                        pending = Data(pending[(newline + 1)...])
                    }
                }
                stream.finish()
            }
        }
        try process.run()
    }

    /// Everything the client said, once it has ended well.
    static func run(_ arguments: String...) async throws -> [Answer] {
        let client = try ForeignClient(arguments)
        var answers: [Answer] = []
        for try await answer in client.answers { answers.append(answer) }
        try #require(await client.exitStatus() == 0, "foreign_client.py \(arguments) failed")
        return answers
    }

    func exitStatus() async -> Int32 {
        for await status in ended { return status }
        return -1
    }

    private static let python: String = {
        if let path = ProcessInfo.processInfo.environment["SWIFTLET_PYTHON"] { return path }
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        return tests.deletingLastPathComponent().path + "/.build/venv/bin/python"
    }()
}
