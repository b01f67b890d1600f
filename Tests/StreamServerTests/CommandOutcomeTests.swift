import Foundation
import Testing

@testable import StreamServer

@Suite struct CommandOutcomeTests {
    private struct Status: Decodable, Equatable {
        struct Details: Decodable, Equatable { var causes: [Cause] }
        struct Cause: Decodable, Equatable {
            var reason: String?
            var message: String
        }

        var status: String
        var message: String?
        var reason: String?
        var details: Details?
        var code: Int?
    }

    private func status(_ outcome: CommandOutcome, _ version: CommandProtocol = .v4) throws -> Status {
        try JSONDecoder().decode(Status.self, from: Data(try #require(outcome.message(version)).utf8))
    }

    @Test func newVersionsSayAStatus() throws {
        for version in [CommandProtocol.v4, .v5] {
            #expect(try status(.exited(0), version) == Status(status: "Success"))
            let failure = try status(.exited(130), version)
            #expect(failure.reason == "NonZeroExitCode" && failure.status == "Failure")
            #expect(failure.details?.causes == [Status.Cause(reason: "ExitCode", message: "130")])
        }
        let text = "\"quoted\\\", a line\nand \u{1} more"
        let failed = try status(.failed(text))
        #expect(failed.message == "Internal error occurred: " + text && failed.code == 500 && failed.reason == "InternalError")
    }

    @Test func oldVersionsSayWordsAndNothingOfSuccess() {
        for version in [CommandProtocol.v1, .v2, .v3] {
            #expect(CommandOutcome.exited(0).message(version) == nil)
            #expect(CommandOutcome.exited(7).message(version) == "command terminated with non-zero exit code: exit status 7")
            #expect(CommandOutcome.failed("no such container").message(version) == "no such container")
        }
    }

    @Test func sizesAreReadInWhateverPieces() {
        var decoder = TerminalSizeDecoder()
        #expect(decoder.take(Array(#"{"Width":80,"Height":24}"#.utf8)) == TerminalSize(width: 80, height: 24))
        #expect(decoder.take(Array(#"{"Width":1"#.utf8)) == nil)
        #expect(decoder.take(Array("00, \"Height\": 30}\n".utf8)) == TerminalSize(width: 100, height: 30))
        let two = Array(#"{"Width":1,"Height":2}{"Height":4,"Width":3}"#.utf8)
        #expect(decoder.take(two) == TerminalSize(width: 3, height: 4))
        for nonsense in ["{}", "}{", #"{"Width":0,"Height":2}"#, #"{"Width":65536,"Height":2}"#, String(repeating: "{a", count: 10_000)] {
            #expect(decoder.take(Array(nonsense.utf8)) == nil)
        }
        #expect(decoder.take(two) == TerminalSize(width: 3, height: 4))
    }

    @Test func aClientOpensTheStreamsOfItsVersion() throws {
        let tty = try StreamSet(stdin: true, stdout: true, stderr: false, tty: true)
        #expect(CommandStream.expected(tty, .v2) == [.error, .stdin, .stdout])
        #expect(CommandStream.expected(tty, .v3) == [.error, .stdin, .stdout, .resize])
        let plain = try StreamSet(stdin: false, stdout: true, stderr: true, tty: false)
        #expect(CommandStream.expected(plain, .v4) == [.error, .stdout, .stderr])
    }
}
