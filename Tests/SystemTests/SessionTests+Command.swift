import CRI
import Foundation
import Glibc
import Linux
import StreamFakes
import Support
import Testing

/// `swiftlet exec` and `attach` with a real guest.
extension SessionTests {
    @Test func theCommandJoinsAPersonsTerminalWithAContainer() async throws {
        let node = try node()
        let (sleeper, reader) = (
            try await node.runContainer(in: try sharedPod(), "sleeper", ["/bin/sleep", "6000"]),
            try await node.runContainer(in: try sharedPod(), "reader", ["/bin/sh", "-c", "read x; echo got $x; exec sleep 6000"]) {
                ($0.stdin, $0.tty) = (true, true)
            }
        )
        let program = node.environment.build + "/swiftlet"
        func terminal(_ arguments: String) throws -> LocalTerminal {
            try LocalTerminal("export SWIFTLET_ENDPOINT=\(node.endpoint); stty -g; \(program) \(arguments); echo code $?; stty -g")
        }
        func isRestored(_ lines: [String]) -> Bool { lines.count > 2 && lines.first == lines.last }

        let sized = try await terminal("exec -it \(sleeper) /bin/sh -c 'busybox stty size; exit 7'").end()
        #expect(sized.contains("37 113") && sized.contains("code 7") && isRestored(sized), "\(sized)")

        let ended = try terminal("exec -it \(sleeper) /bin/sh -c 'echo up; exec sleep 4321'")
        try await ended.shows("up")
        kill(try ended.child(), SIGTERM)
        let lines = try await ended.end()
        #expect(lines.contains("code 143") && isRestored(lines), "\(lines)")
        try await eventually("the process ends with its session") {
            try await !node.shell(sleeper, Self.processes).contains("sleep 4321")
        }

        let bytes = Array(randomBytes(300_001, seed: 8))
        var environment = ProcessInfo.processInfo.environment
        environment["SWIFTLET_ENDPOINT"] = node.endpoint
        let echo = try await Spawn(program, ["exec", "-i", sleeper, "/bin/cat"], environment: environment, input: bytes).run()
        let isSame = echo.output == bytes
        #expect(echo.status == 0 && isSame, "\(echo.errorText)")

        let attached = try terminal("attach -i \(reader)")
        try await attached.type("hello\n")
        try await attached.shows("got hello")
        try await attached.type("\u{10}\u{11}")
        let left = try await attached.end()
        #expect(left.contains("code 0") && left.contains { $0.hasPrefix("detached from") } && isRestored(left), "\(left)")
        #expect(try await node.status(of: reader).state == .containerRunning)
        for container in [sleeper, reader] { try await node.removeContainer(container) }
    }
}
