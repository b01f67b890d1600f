import CLinux
import Errors
import Foundation
import Glibc
import Support
import Synchronization
import Testing

@testable import ConsoleOutput

/// QEMU's end of a serial port: one client at a time.
private final class PlayedPort: Sendable {
    private let listener: Int32
    let connection = Mutex<Int32>(-1)

    init(_ path: String) throws {
        listener = clinux_unix_socket()
        guard clinux_unix_bind(listener, path, 0o600) == 0, listen(listener, 1) == 0 else { throw SwiftletError.system("listen") }
    }

    deinit {
        close(listener)
        connection.withLock { if $0 >= 0 { close($0) } }
    }

    /// Takes the client that waits; false when none does.
    func accept() -> Bool {
        let client = clinux_unix_accept(listener)
        guard client >= 0 else { return false }
        connection.withLock { $0 = client }
        return true
    }

    func drop() {
        connection.withLock {
            close($0); $0 = -1
        }
    }

    /// What has come; nil at the client's end.
    func received() -> [UInt8]? {
        connection.withLock { connection in
            var buffer = [UInt8](repeating: 0, count: 256 << 10)
            let count = read(connection, &buffer, buffer.count)
            return count == 0 ? nil : Array(buffer.prefix(max(count, 0)))
        }
    }

    /// Bytes that the client took.
    func send(_ bytes: [UInt8]) -> Int { connection.withLock { max(Glibc.send($0, bytes, bytes.count, Int32(MSG_NOSIGNAL)), 0) } }
}

@Suite(.timeLimit(.minutes(2))) struct ConsoleInputTests {
    /// Whoever made the socket reads what is typed, and passwords are typed. A machine's QEMU listens as a pod's user.
    @Test(
        .enabled(if: geteuid() == 0),
        arguments: [(2_001_400_001, mode_t(0o777), false), (1000, 0o755, false), (2_001_400_001, 0o755, true)])
    func nothingIsTypedAtAnotherUsersSocket(user: Int, mode: mode_t, isMachine: Bool) async throws {
        let ground = try ConsoleGround(withFile: false)
        chmod(ground.directory, mode)
        let stranger = ChildProcess()
        stranger.executableURL = URL(fileURLWithPath: "/usr/bin/perl")
        let script = """
            socket(my $s, PF_UNIX, SOCK_STREAM, 0); bind($s, sockaddr_un($ARGV[0])) or die; $> = \(user); listen($s, 1) or die; sleep 100
            """
        stranger.arguments = ["-MSocket", "-e", script, ground.socket]
        try stranger.run()
        defer { kill(stranger.processIdentifier, SIGKILL) }
        let inputs = ConsoleInputs(idle: .seconds(600))
        var refusal: SwiftletError?
        try await eventually("the socket is there") {
            do {
                try inputs.join(ground.socket).leave()
                refusal = nil
                return true
            } catch let error as SwiftletError {
                refusal = error
                return error.code != .unavailable
            }
        }
        #expect(refusal?.code == (isMachine ? nil : .permissionDenied), "\(String(describing: refusal))")
    }

    /// QEMU writes what a guest says to a client as well, byte by byte.
    @Test func aConnectionEndsWhileNobodyTypesAndLosesNothing() async throws {
        let ground = try ConsoleGround(withFile: false)
        let port = try PlayedPort(ground.socket)
        let input = try ConsoleInputs(idle: .milliseconds(100)).join(ground.socket)
        try await eventually("it is connected") { port.accept() }
        try await input.write([1])
        // The guest is slow: what it has not taken yet keeps the connection.
        try await Task.sleep(for: .milliseconds(400))
        #expect(port.received() == [1])
        try await eventually("the port is free") { port.received() == nil }
        try await input.write([2])
        try await eventually("it is connected again") { port.accept() }
        try await eventually("what was typed comes") { port.received() == [2] }
        input.leave()
    }

    @Test func allWhoTypeShareOneConnectionWhichEndsWithTheLastOfThem() async throws {
        let ground = try ConsoleGround(withFile: false)
        let port = try PlayedPort(ground.socket)
        let inputs = ConsoleInputs(idle: .seconds(600))
        let (first, second) = (try inputs.join(ground.socket), try inputs.join(ground.socket))
        #expect(port.accept())
        #expect(!port.accept())
        try await first.write(Array("root\r".utf8))
        try await second.write(Array("ls\r".utf8))
        var bytes: [UInt8] = []
        try await eventually("both have come") {
            bytes += port.received() ?? []
            return bytes == Array("root\rls\r".utf8)
        }
        first.leave()
        first.leave()
        try await second.write([3])
        try await eventually("the other goes on") { port.received() == [3] }
        await #expect { try await first.write([4]) } throws: { ($0 as? SwiftletError)?.code == .cancelled }
        second.leave()
        try await eventually("the port is free") { port.received() == nil }
        let third = try inputs.join(ground.socket)
        #expect(port.accept())
        third.leave()
    }

    @Test func theGuestIsNeverHeld() async throws {
        let ground = try ConsoleGround(withFile: false)
        let port = try PlayedPort(ground.socket)
        let input = try ConsoleInputs(idle: .seconds(600)).join(ground.socket)
        #expect(port.accept())
        var rest = 10 << 20
        let piece = [UInt8](repeating: 0x2E, count: 64 << 10)
        try await eventually("10 MiB are taken") {
            while rest > 0 {
                let count = port.send(piece)
                guard count > 0 else { return false }
                rest -= count
            }
            return true
        }
        input.leave()
    }

    @Test func aGuestThatReadsNothingHoldsWhoTypesUntilTheyLeave() async throws {
        let ground = try ConsoleGround(withFile: false)
        let port = try PlayedPort(ground.socket)
        let inputs = ConsoleInputs(idle: .seconds(600))
        let (eager, other) = (try inputs.join(ground.socket), try inputs.join(ground.socket))
        #expect(port.accept())
        let writing = Task {
            while true { try await eager.write([UInt8](repeating: 0x79, count: 64 << 10)) }
        }
        try await Task.sleep(for: .milliseconds(100))
        eager.leave()
        let result = await writing.result
        #expect(throws: SwiftletError.self) { try result.get() }
        // The other one's connection is the same, and goes on.
        try await eventually("what was typed comes") { port.received()?.isEmpty ?? true }
        try await other.write([1])
        try await eventually("the other's byte comes") { port.received() == [1] }
        other.leave()
    }

    @Test func aConnectionThatWasLostIsMadeAnew() async throws {
        let ground = try ConsoleGround(withFile: false)
        let port = try PlayedPort(ground.socket)
        let input = try ConsoleInputs(idle: .seconds(600)).join(ground.socket)
        #expect(port.accept())
        port.drop()
        try await eventually("it is connected again") {
            try? await input.write([7])
            return port.accept()
        }
        try await eventually("it is heard") { port.received()?.isEmpty == false }
        input.leave()
    }

    @Test func aMachineThatDoesNotListenIsUnavailable() throws {
        let ground = try ConsoleGround(withFile: false)
        #expect { try ConsoleInputs(idle: .seconds(600)).join(ground.socket) } throws: { ($0 as? SwiftletError)?.code == .unavailable }
    }
}
