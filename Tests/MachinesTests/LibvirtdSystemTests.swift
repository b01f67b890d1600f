import Errors
import Foundation
import Linux
import Machines
import Support
import Testing

/// What the death of libvirtd means to machines and to this connection.
@Suite(.serialized, .tags(.system), .enabled(if: SystemTestGround.isWanted), .timeLimit(.minutes(4)))
struct LibvirtdSystemTests {
    private func withDaemon(_ body: (PrivateLibvirtd, LibvirtHypervisor, MachineRoom, MachineSpec) async throws -> Void) async throws {
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
            let process = try #require(try await hypervisor.start(spec).process)
            let (losses, returns) = (hypervisor.events(), hypervisor.events())
            daemon.kill9()
            let loss = await losses.first { $0 == .connectionLost }
            #expect(loss != nil)
            #expect(process.isAlive)
            await #expect {
                _ = try await hypervisor.machines()
            } throws: {
                ($0 as? SwiftletError)?.code == .unavailable
            }

            try await daemon.start()
            let back = await returns.first { $0 == .reconnected }
            #expect(back != nil)
            #expect(try await hypervisor.machines().map(\.process) == [process])
            // Events come on the new connection as well.
            let events = hypervisor.events()
            try await hypervisor.destroy(spec.id, process: process)
            // Whether libvirt sees its own call or QEMU's end first decides the reason.
            let stopped = await events.first { if case .stopped(spec.id, _) = $0 { true } else { false } }
            #expect(stopped != nil)
            #expect(!process.isAlive)
        }
    }

    /// Debian's directory of machines is libvirt-qemu's alone.
    @Test func aMachineWithAUserOfItsOwnRunsBelowDebiansLibvirtd() async throws {
        let daemon = try PrivateLibvirtd()
        defer { daemon.close() }
        let directory = daemon.directory + "/lib/qemu"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        #expect(chmod(directory, 0o750) == 0)
        try await daemon.start()
        // Without pid files: the process is found by its command line, among those of the machines' users.
        var configuration = LibvirtConfiguration(connection: .custom(daemon.uri), pidDirectories: [], users: try MachineRoom.users)
        configuration.machineDirectory = directory
        let hypervisor = try await LibvirtHypervisor.open(configuration, logger: SystemTestGround.logger)
        let room = try MachineRoom()
        let user = MachineUser(uid: try MachineRoom.users.ids.lowerBound, gid: try MachineUser.shared().gid)
        let spec = try await room.spec("swl-own-user", user: user)
        do {
            let process = try #require(try await hypervisor.start(spec).process)
            #expect(ProcessTable.running(as: user.uid...user.uid).map(\.process).contains(process))
            try await room.waitForGreeting(spec)
            try await hypervisor.destroy(spec.id, process: process)
            #expect(!process.isAlive)
        } catch {
            Issue.record(error)
        }
        await room.close([spec], hypervisor)
        await hypervisor.close()
    }

    @Test(arguments: [true, false])
    func aMachineIsDestroyedWithoutItsDaemon(knowingTheProcess: Bool) async throws {
        try await withDaemon { daemon, hypervisor, _, spec in
            let process = try #require(try await hypervisor.start(spec).process)
            daemon.kill9()
            try await hypervisor.destroy(spec.id, process: knowingTheProcess ? process : nil)
            #expect(!process.isAlive)
            // Nothing runs: without the daemon, too, that is success.
            try await hypervisor.destroy(spec.id, process: process)
            try await daemon.start()
            try await eventually("libvirtd has noticed") { (try? await hypervisor.machines().isEmpty) == true }
        }
    }

    @Test func aHungDaemonCostsTheDeadlineAndNotTheMachine() async throws {
        try await withDaemon { daemon, hypervisor, _, spec in
            let process = try #require(try await hypervisor.start(spec).process)
            daemon.signal(SIGSTOP)
            try await hypervisor.destroy(spec.id, process: process)
            #expect(!process.isAlive)
            daemon.signal(SIGCONT)
        }
    }

    @Test func aTapThatExistsBecomesTheGuestsDeviceAndMayMoveAway() async throws {
        try await withDaemon { daemon, hypervisor, _, plain in
            var spec = plain
            spec.set(.interface(InterfaceSpec(tap: "swltest0", mac: "02:53:57:4c:00:01", mtu: 1450)))
            _ = try await daemon.inNetwork(
                "/sbin/ip", ["tuntap", "add", "dev", "swltest0", "mode", "tap", "user", "64055", "vnet_hdr"])
            let process = try #require(try await hypervisor.start(spec).process)
            #expect(try await daemon.inNetwork("/sbin/ip", ["link", "show", "swltest0"]).contains("LOWER_UP") == false)
            // A pod's namespace, which ends with the process that holds it.
            let holder = ChildProcess()
            holder.executableURL = URL(filePath: "/usr/bin/unshare")
            holder.arguments = ["--net", "/bin/sleep", "1000"]
            try holder.run()
            defer {
                kill(holder.processIdentifier, SIGKILL)
                holder.waitUntilExit()
            }
            let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/net")
            try await eventually("the namespace exists") {
                try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(holder.processIdentifier)/ns/net") != own
            }
            _ = try await daemon.inNetwork("/sbin/ip", ["link", "set", "swltest0", "netns", "\(holder.processIdentifier)"])
            let link = try await Spawn(
                "/usr/bin/nsenter", ["--target", "\(holder.processIdentifier)", "--net", "/sbin/ip", "link", "set", "swltest0", "up"]
            ).check()
            #expect(link.succeeded)
            // QEMU still holds the other end: a tap without a holder has no carrier.
            let shown = try await Spawn(
                "/usr/bin/nsenter", ["--target", "\(holder.processIdentifier)", "--net", "/sbin/ip", "link", "show", "swltest0"]
            ).check().outputText
            #expect(shown.contains("LOWER_UP"), "\(shown)")
            #expect(process.isAlive)
            try await hypervisor.destroy(spec.id, process: process)
        }
    }
}
