import Errors
import Foundation
import Linux
import State
import Support
import Synchronization
import Testing

@testable import MicroVMRuntime
@testable import PodMachine
@testable import Pods
@testable import Runtime

@Suite(.timeLimit(.minutes(1))) struct PodUsersTests {
    private static func withDatabase(_ body: (StateDatabase) async throws -> Void) async throws {
        let directory = NSTemporaryDirectory() + "swiftlet-users-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try await body(try StateDatabase(path: directory + "/state.sqlite"))
    }

    private static let releasers = Releasers([ResourceReleaser(.user) { try PodUsers.release($0.name) }])

    @Test func noUserIsTwoPodsAtOnce() async throws {
        try await Self.withDatabase { database in
            let range = try UserRange.test(20)
            // Two of them know nothing of each other, as a daemon and the one before.
            let sources = [PodUsers(range), PodUsers(range)]
            var given: [uid_t] = []
            for source in sources {
                given += try await withThrowingTaskGroup(of: uid_t.self) { group in
                    for number in 0..<10 {
                        let ledger = Ledger(owner: "pod\(given.count + number)", database: database)
                        group.addTask { try await source.acquire(ledger) }
                    }
                    return try await group.reduce(into: []) { $0.append($1) }
                }
            }
            #expect(given.sorted() == Array(range.ids))
            let error = await #expect(throws: SwiftletError.self) {
                _ = try await sources[1].acquire(Ledger(owner: "one too many", database: database))
            }
            #expect(error?.code == .resourceExhausted && error?.message.contains("pod_uid_count") == true)

            let stored = try await Ledger.stored(in: database)
            let released = Ledger(owner: "pod7", database: database, entries: stored["pod7"] ?? [])
            let freed = try #require(released.entry(.user)?.name)
            released.close()
            #expect(await released.releaseAll(by: Self.releasers).isEmpty)
            let next = Ledger(owner: "next", database: database)
            let again = try await sources[0].acquire(next)
            #expect("\(again)" == freed)
        }
    }

    @Test(.enabled(if: geteuid() == 0)) func whatStillRunsAsAPodsUserEndsBeforeAnotherPodIsThatUser() async throws {
        let user = try UserRange.test().ids.upperBound + 100
        let process = ChildProcess()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
        process.arguments = ["--reuid", "\(user)", "--clear-groups", "sleep", "1000"]
        (process.standardOutput, process.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
        try process.run()
        defer { kill(process.processIdentifier, SIGKILL) }
        while ProcessTable.running(as: user...user).isEmpty { try await Task.sleep(for: .milliseconds(5)) }
        let source = PodUsers(try UserRange(first: Int(user), count: 2))
        try await Self.withDatabase { database in
            // One that no ledger lists is not given to anybody.
            let ledger = Ledger(owner: "pod", database: database)
            let given = try await source.acquire(ledger)
            #expect(given == user + 1)
        }
        try PodUsers.release("\(user)")
        #expect(ProcessTable.running(as: user...user).isEmpty)
        try PodUsers.release("\(user)")
    }

    @Test func directoriesStayListedWhileTheirUserHasProcessesAlsoThePodsOwn() async throws {
        try await Self.withDatabase { database in
            let (container, pod) = (Ledger(owner: "container", database: database), Ledger(owner: "pod", database: database))
            try await pod.note(.directory, "/pod", EmptyDocument())
            try await container.note(.directory, "/pod/container", EmptyDocument())
            try await container.note(.userProcesses, "70000", EmptyDocument())
            let released = Mutex<[String]>([])
            let directory = ResourceReleaser(.directory) { entry in released.withLock { $0.append(entry.name) } }
            let stuck = ResourceReleaser(.userProcesses) { _ in throw SwiftletError(.deadlineExceeded, "stuck") }
            for ledger in [container, pod] { ledger.close() }
            var pending = await container.releaseAll(by: Releasers([directory, stuck]))
            pending += await pod.releaseAll(by: Releasers([directory, stuck]), after: pending)
            #expect(pending.map(\.entry.name) == ["70000", "/pod/container", "/pod"])
            #expect(pending.last?.reason.contains("70000") == true && released.withLock { $0.isEmpty })
            let ended = ResourceReleaser(.userProcesses) { _ in }
            pending = await container.releaseAll(by: Releasers([directory, ended]))
            pending += await pod.releaseAll(by: Releasers([directory, ended]), after: pending)
            #expect(pending.isEmpty && released.withLock { $0 } == ["/pod/container", "/pod"])
        }
    }

    @Test func usersThatNoPodIsGivenAreLeftAlone() {
        for name in ["0", "1000", "65535", "root", "", "-1"] {
            let error = #expect(throws: SwiftletError.self) { try PodUsers.release(name) }
            #expect(error?.code == .dataLoss)
        }
    }

    @Test func aUserStaysThePodsUntilAllElseIsReleased() async throws {
        try await Self.withDatabase { database in
            let ledger = Ledger(owner: "pod", database: database)
            let user = try await PodUsers(try .test()).acquire(ledger)
            try await ledger.note(.scratchDisk, "/disk", EmptyDocument())
            ledger.close()
            let stuck = ResourceReleaser(.scratchDisk) { _ in throw SwiftletError(.internal, "stuck") }
            let pending = await ledger.releaseAll(by: Self.releasers.adding([stuck]))
            #expect(pending.map(\.entry.kind) == [.scratchDisk, .user])
            #expect(pending.last?.reason.contains("/disk") == true)
            #expect(ledger.entry(.user)?.name == "\(user)")
            let gone = ResourceReleaser(.scratchDisk) { _ in }
            #expect(await ledger.releaseAll(by: Self.releasers.adding([gone])).isEmpty)
        }
    }
}
