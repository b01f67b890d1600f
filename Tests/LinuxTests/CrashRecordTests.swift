import Errors
import Foundation
import Glibc
import Support
import Testing

@testable import Linux

@Suite(.timeLimit(.minutes(1)), .serialized) struct CrashRecordTests {
    private let path = NSTemporaryDirectory() + "crash-record-" + UUID().uuidString

    /// As long as a pod's id.
    private let guilty = String(repeating: "0123456789abcdef", count: 4)

    /// Runs the fixture to its end.
    ///
    /// - Parameter signal: what it is sent when it waits.
    private func run(_ how: String, signal: Int32? = nil) throws {
        let fixture = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        let process = ChildProcess()
        process.executableURL = Bundle.main.bundleURL.appendingPathComponent("crash-fixture")
        if !FileManager.default.isExecutableFile(atPath: process.executableURL?.path ?? "") {
            process.executableURL = fixture.appendingPathComponent("crash-fixture")
        }
        process.arguments = [path, how, guilty]
        process.environment = ["SWIFT_BACKTRACE": "enable=no"]
        (process.standardOutput, process.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
        try process.run()
        if let signal {
            // Until it has read its record, which takes the last crash out of it.
            while try Data(contentsOf: URL(fileURLWithPath: path)).range(of: Data(guilty.utf8)) == nil { usleep(1000) }
            kill(process.processIdentifier, signal)
        }
        let limit = ContinuousClock.now + .seconds(20)
        while process.isRunning {
            if ContinuousClock.now > limit {
                kill(process.processIdentifier, SIGKILL)
                Issue.record("the fixture does not end (\(how))")
            }
            usleep(1000)
        }
    }

    @Test(arguments: [("overflow", [SIGILL, SIGTRAP]), ("abort", [SIGABRT]), ("memory", [SIGSEGV])])
    func aCrashAccusesWhoseDataWasWorkedOn(_ how: String, _ signals: [Int32]) throws {
        defer { unlink(path) }
        try run(how)
        try run(how)
        let crash = try #require(try CrashRecord(path: path).last)
        #expect(signals.contains(crash.signal))
        #expect(crash.culprit == guilty)
        #expect(crash.crashesInARow == 2)
        #expect(try CrashRecord(path: path).last == nil, "what was read is not read again")
    }

    @Test func aCrashOfAnotherThreadAccusesNobody() throws {
        defer { unlink(path) }
        try run("other-thread")
        #expect(try CrashRecord(path: path).last == CrashRecord.Crash(signal: SIGABRT))
    }

    @Test func whoIsAloneAtTwoCrashesIsTheCulprit() throws {
        defer { unlink(path) }
        try run("alone")
        try run("alone")
        #expect(try CrashRecord(path: path).last == CrashRecord.Crash(signal: SIGABRT, culprit: guilty, crashesInARow: 2))
        try run("alone")
        #expect(try CrashRecord(path: path).last?.culprit == nil, "one crash alone may be anybody's")
    }

    @Test(arguments: ["kill", "exit"]) func anEndWithoutACrashAccusesNobody(_ how: String) throws {
        defer { unlink(path) }
        try run("abort")
        try run(how)
        #expect(try CrashRecord(path: path).last == nil)
    }

    /// An operator's, or a watchdog's.
    @Test(arguments: [SIGABRT, SIGSEGV]) func aSignalOfAnotherProcessIsNoCrash(_ signal: Int32) throws {
        defer { unlink(path) }
        try Data().write(to: URL(fileURLWithPath: path))
        try run("wait", signal: signal)
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
        let mark = record.mark(for: String(repeating: "x", count: 72))
        mark.during {}
    }
}
