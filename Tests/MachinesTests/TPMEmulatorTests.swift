import Errors
import Foundation
import Linux
import Testing

@testable import Machines

@Suite(.enabled(if: geteuid() == 0, "the emulator runs as another user"), .timeLimit(.minutes(1))) struct TPMEmulatorTests {
    private let user = MachineUser(uid: 2_001_500_001, gid: 2_001_500_001)
    private var users: UserRange { get throws { try UserRange(first: Int(user.uid), count: 1) } }
    private let directory = "/tmp/swiftlet-tpm-\(UUID().uuidString.prefix(8))"

    /// - Parameter script: stands for swtpm.
    private func withEmulator(_ script: String, _ body: (TPMEmulator) async throws -> Void) async throws {
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let program = "\(directory)/swtpm"
        try Data("#!/bin/sh\n\(script)\n".utf8).write(to: URL(filePath: program))
        chmod(program, 0o755)
        try await body(TPMEmulator(program: program))
    }

    @Test func itRunsAsTheMachinesUserOnADirectoryOfItsOwn() async throws {
        // Goes to the background when it is ready, as swtpm does.
        try await withEmulator(#"case "$1" in socket) setsid "$0" run "$@" </dev/null >/dev/null 2>&1 & ;; *) sleep 100 ;; esac"#) {
            emulator in
            #expect(emulator.obstacle() == nil)
            let (socket, state) = ("\(directory)/socket", "\(directory)/state")
            var started: [ProcessIdentity] = []
            for _ in 0..<2 { started.append(try await emulator.start(socket: socket, state: .directory(state), user: user)) }
            #expect(started.allSatisfy { $0.isAlive })
            let attributes = try FileManager.default.attributesOfItem(atPath: state)
            #expect(attributes[.ownerAccountID] as? UInt32 == user.uid && attributes[.posixPermissions] as? Int == 0o700)
            func running() -> Int { ProcessTable.all(of: [user.uid]) { $0.contains("type=unixio,path=\(socket),mode=0600") }.count }
            try await eventually("it runs") { running() >= 2 }
            // By what was written down, and where a daemon did not live to do so by its command line.
            try await emulator.stop(socket: socket, process: started[0], users: try users)
            #expect(!started[0].isAlive)
            for _ in 0..<2 { try await emulator.stop(socket: socket, process: nil, users: try users) }
            #expect(running() == 0)
        }
    }

    @Test(.enabled(if: TPMEmulator().obstacle() == nil, "swtpm is not installed")) func itsStateMayBeOneFile() async throws {
        try await withEmulator("exit 1") { _ in
            let (emulator, socket, state) = (TPMEmulator(), "\(directory)/run/socket", "\(directory)/state")
            try FileManager.default.createDirectory(atPath: "\(directory)/run", withIntermediateDirectories: true)
            try Data().write(to: URL(filePath: state))
            for path in [state, "\(directory)/run"] { chown(path, user.uid, user.gid) }
            let process = try await emulator.start(socket: socket, state: .file(state), user: user)
            #expect(process.isAlive)
            try await emulator.stop(socket: socket, process: process, users: try users)
        }
    }

    @Test func whatDoesNotComeUpIsNamed() async throws {
        try await withEmulator("echo no state >&2; exit 3") { emulator in
            await #expect {
                _ = try await emulator.start(socket: "\(directory)/socket", state: .directory("\(directory)/state"), user: user)
            } throws: {
                ($0 as? SwiftletError)?.code == .unavailable && "\($0)".contains("no state")
            }
            await #expect {
                _ = try await emulator.start(socket: "\(directory)/a,b", state: .directory("\(directory)/state"), user: user)
            } throws: {
                ($0 as? SwiftletError)?.code == .invalidArgument
            }
            let absent = TPMEmulator(program: "\(directory)/absent")
            #expect(absent.obstacle()?.contains("package swtpm") == true)
            await #expect {
                _ = try await absent.start(socket: "\(directory)/socket", state: .directory("\(directory)/state"), user: user)
            } throws: {
                ($0 as? SwiftletError)?.code == .failedPrecondition && "\($0)".contains("not installed")
            }
        }
    }
}
