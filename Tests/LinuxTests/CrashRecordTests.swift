import Errors
import Foundation
import Glibc
import Testing

@testable import Linux

@Suite(.timeLimit(.minutes(1)), .serialized) struct CrashRecordTests {
    private let path = NSTemporaryDirectory() + "crash-record-" + UUID().uuidString

    /// Runs the fixture to its end.
    private func run(_ how: String) throws {
        let fixture = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        let process = Process()
        process.executableURL = Bundle.main.bundleURL.appendingPathComponent("crash-fixture")
        if !FileManager.default.isExecutableFile(atPath: process.executableURL?.path ?? "") {
            process.executableURL = fixture.appendingPathComponent("crash-fixture")
        }
        process.arguments = [path, how]
        process.environment = ["SWIFT_BACKTRACE": "enable=no"]
        (process.standardOutput, process.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
        try process.run()
        process.waitUntilExit()
    }

    @Test(arguments: [("overflow", [SIGILL, SIGTRAP]), ("abort", [SIGABRT]), ("memory", [SIGSEGV])])
    func aCrashAccusesWhoseDataWasWorkedOn(_ how: String, _ signals: [Int32]) throws {
        defer { unlink(path) }
        try run(how)
        try run(how)
        let crash = try #require(try CrashRecord(path: path).last)
        #expect(signals.contains(crash.signal))
        #expect(crash.suspects == ["guilty"])
        #expect(crash.crashesInARow == 2)
        #expect(try CrashRecord(path: path).last == nil, "what was read is not read again")
    }

    @Test(arguments: ["kill", "exit"]) func anEndWithoutACrashAccusesNobody(_ how: String) throws {
        defer { unlink(path) }
        try run("abort")
        try run(how)
        #expect(try CrashRecord(path: path).last == nil)
    }

    @Test func aFileOfSomethingElseIsBegunAnew() throws {
        defer { unlink(path) }
        try Data(repeating: 0xFF, count: 100_000).write(to: URL(fileURLWithPath: path))
        #expect(try CrashRecord(path: path).last == nil)
        #expect(throws: SwiftletError.self) { try CrashRecord(path: "/nonexistent/crash") }
    }

    @Test func marksBeyondTheRoomHaveNoEffect() throws {
        defer { unlink(path) }
        let record = try CrashRecord(path: path)
        var marks = (0..<2000).map { record.mark(for: "pod-\($0)") }
        for mark in marks { mark.during {} }
        marks = []
        let mark = record.mark(for: String(repeating: "x", count: 64))
        mark.begin()
        mark.end()
    }
}
