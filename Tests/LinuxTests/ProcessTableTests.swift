import Errors
import Foundation
import Glibc
import Support
import Testing

@testable import Linux

@Suite(.timeLimit(.minutes(1))) struct ProcessTableTests {
    /// Whoever gives his process the command line of ours must not have it ended in ours' place, nor keep a pod from its stop.
    @Test(.enabled(if: geteuid() == 0)) func aForgedCommandLineOfAnotherUserIsNotFound() async throws {
        let number = "\(UInt32.random(in: 1_000_000...9_999_999))"
        var processes: [ChildProcess] = []
        // SIGTERM is ignored in some test processes, and with that in their children.
        defer { for process in processes { kill(process.processIdentifier, SIGKILL) } }
        for user in ["0", "65534"] {
            let process = ChildProcess()
            process.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
            process.arguments = ["--reuid", user, "--clear-groups", "sleep", number]
            (process.standardOutput, process.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
            try process.run()
            processes.append(process)
        }
        func found(_ users: Set<uid_t>) -> [Int32] {
            ProcessTable.all(of: users) { $0 == ["sleep", number, ""] || $0 == ["sleep", number] }.map(\.pid)
        }
        while found([0, 65534]).count < 2 { try await Task.sleep(for: .milliseconds(5)) }
        #expect(found([0]) == [processes[0].processIdentifier])
        #expect(ProcessTable.users("nobody") == [0, 65534])
        #expect(ProcessTable.users("no-such-user") == [0])
    }
}
