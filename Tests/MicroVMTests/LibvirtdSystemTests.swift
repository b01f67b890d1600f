import Errors
import Foundation
import Linux
import MicroVM
import Testing

/// What the death of libvirtd means to machines and to this connection.
@Suite(.serialized, .tags(.system), .enabled(if: SystemTestGround.isWanted), .timeLimit(.minutes(4)))
struct LibvirtdSystemTests {
    private func withDaemon(_ body: (PrivateLibvirtd, LibvirtHypervisor, MachineRoom, VMSpec) async throws -> Void) async throws {
        let daemon = try PrivateLibvirtd()
        defer { daemon.close() }
        try await daemon.start()
        var configuration = LibvirtConfiguration(connection: .custom(daemon.uri), pidDirectories: [daemon.pidDirectory])
        configuration.openTimeout = .seconds(60)
        let hypervisor = try await LibvirtHypervisor.open(configuration, logger: SystemTestGround.logger)
        let room = try MachineRoom()
        let spec = try await room.spec("swl-daemon")
        let result: Result<Void, any Error>
        do {
            result = .success(try await body(daemon, hypervisor, room, spec))
        } catch {
            result = .failure(error)
        }
        await room.close([spec], hypervisor)
        await hypervisor.close()
        try result.get()
    }

    @Test func aMachineOutlivesItsDaemonAndIsFoundAgain() async throws {
        try await withDaemon { daemon, hypervisor, _, spec in
            let process = try await hypervisor.start(spec)
            let (losses, returns) = (hypervisor.events(), hypervisor.events())
            daemon.kill9()
            #expect(await losses.first { $0 == .connectionLost } != nil)
            #expect(process.isAlive)
            await #expect {
                _ = try await hypervisor.domains()
            } throws: {
                ($0 as? SwiftletError)?.code == .unavailable
            }

            try await daemon.start()
            #expect(await returns.first { $0 == .reconnected } != nil)
            #expect(try await hypervisor.domains().map(\.process) == [process])
            // Events come on the new connection as well.
            let events = hypervisor.events()
            try await hypervisor.destroy(uuid: spec.uuid, process: process)
            #expect(await events.first { $0 == .stopped(spec.uuid, reason: "destroyed") } != nil)
            #expect(!process.isAlive)
        }
    }

    @Test(arguments: [true, false])
    func aMachineIsDestroyedWithoutItsDaemon(knowingTheProcess: Bool) async throws {
        try await withDaemon { daemon, hypervisor, _, spec in
            let process = try await hypervisor.start(spec)
            daemon.kill9()
            try await hypervisor.destroy(uuid: spec.uuid, process: knowingTheProcess ? process : nil)
            #expect(!process.isAlive)
            // Nothing runs: without the daemon, too, that is success.
            try await hypervisor.destroy(uuid: spec.uuid, process: process)
            try await daemon.start()
            try await eventually("libvirtd has noticed") { (try? await hypervisor.domains().isEmpty) == true }
        }
    }

    @Test func aHungDaemonCostsTheDeadlineAndNotTheMachine() async throws {
        try await withDaemon { daemon, hypervisor, _, spec in
            let process = try await hypervisor.start(spec)
            daemon.signal(SIGSTOP)
            try await hypervisor.destroy(uuid: spec.uuid, process: process)
            #expect(!process.isAlive)
            daemon.signal(SIGCONT)
        }
    }
}
