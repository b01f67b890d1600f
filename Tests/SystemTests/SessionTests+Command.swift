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

        let sized = try await terminal("exec -it \(sleeper) /bin/sh -c 'busybox stty size; exit 7'").end()
        #expect(sized.contains("37 113") && sized.contains("code 7") && LocalTerminal.isRestored(sized), "\(sized)")

        let ended = try terminal("exec -it \(sleeper) /bin/sh -c 'echo up; exec sleep 4321'")
        try await ended.shows("up")
        kill(try ended.child(), SIGTERM)
        let lines = try await ended.end()
        #expect(lines.contains("code 143") && LocalTerminal.isRestored(lines), "\(lines)")
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
        #expect(left.contains("code 0") && left.contains { $0.hasPrefix("detached from") } && LocalTerminal.isRestored(left), "\(left)")
        #expect(try await node.status(of: reader).state == .containerRunning)
        for container in [sleeper, reader] { try await node.removeContainer(container) }
    }

    @Test func theCommandCopiesFilesBothWays() async throws {
        let node = try node()
        let container = try await node.runContainer(in: try sharedPod(), "copies", ["/bin/sleep", "6000"])
        var environment = ProcessInfo.processInfo.environment
        environment["SWIFTLET_ENDPOINT"] = node.endpoint
        func copy(_ source: String, _ destination: String) async throws -> Spawn.Result {
            try await Spawn(node.environment.build + "/swiftlet", ["cp", source, destination], environment: environment).run()
        }
        let home = node.environment.scratch + "/copies"
        try FileManager.default.createDirectory(atPath: home + "/tree/below", withIntermediateDirectories: true)
        let bytes = randomBytes(1_000_001, seed: 9)
        try bytes.write(to: URL(fileURLWithPath: home + "/tree/below/file"))
        _ = try await node.shell(container, "busybox rm -f /bin/tar; busybox mkdir -p /tmp")
        let without = try await copy(home + "/tree", container + ":/tmp/copy")
        #expect(without.status == 1 && without.errorText.contains("cp needs tar in the container"), "\(without.errorText)")
        _ = try await node.shell(container, "for name in tar test; do [ -e /bin/$name ] || busybox ln -s busybox /bin/$name; done")
        let into = try await copy(home + "/tree", container + ":/tmp/copy")
        #expect(into.status == 0, "\(into.errorText)")
        let out = try await copy(container + ":/tmp/copy", home + "/back")
        #expect(out.status == 0, "\(out.errorText)")
        let isSame = try Data(contentsOf: URL(fileURLWithPath: home + "/back/below/file")) == bytes
        #expect(isSame)
        try await node.removeContainer(container)
    }
}
