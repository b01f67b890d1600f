import Foundation
import Linux
import Support
import Testing

struct SubreaperTests {
    @Test func orphansAreReapedSignalsPassedAndTheStatusHandedOn() throws {
        let fixture = Bundle.main.bundleURL.deletingLastPathComponent()
        let candidates = [fixture.appending(path: "subreaper-fixture"), Bundle.main.bundleURL.appending(path: "subreaper-fixture")]
        let program = try #require(candidates.first { FileManager.default.isExecutableFile(atPath: $0.path) })
        let (input, output) = (Pipe(), Pipe())
        let process = ChildProcess()
        process.executableURL = program
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        var said = ""
        while !said.hasSuffix("orphaned\n") { said += String(decoding: output.fileHandleForReading.availableData, as: UTF8.self) }
        let orphan = try #require(said.split(separator: "\n").first.flatMap { Int32($0) })
        let parent = process.processIdentifier
        #expect(Self.parent(of: orphan) == parent)

        try input.fileHandleForWriting.close()
        // Reaped, not merely ended: nothing is left under its number.
        while kill(orphan, 0) == 0 { usleep(1000) }

        kill(parent, SIGHUP)
        process.waitUntilExit()
        #expect(process.terminationReason == .exit)
        #expect(process.terminationStatus == 42)
    }

    private static func parent(of pid: Int32) -> Int32? {
        guard let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8) else { return nil }
        return stat.split(separator: ")").last?.split(separator: " ").dropFirst().first.flatMap { Int32($0) }
    }
}
