import CLinux
import Errors
import Foundation
import Logging
import Machines
import Testing

/// libvirt's own pretend hypervisor: the real client library without a daemon or QEMU.
struct TestDriverTests {
    /// A node with one running domain. All connections to "test:///default" would share its domains; a file's are the connection's own.
    private func open() async throws -> LibvirtHypervisor {
        let node = """
            <node><domain type='test'><name>test</name><uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid><memory>131072</memory>
            <os><type>hvm</type></os></domain></node>
            """
        let path = "/tmp/swiftlet-node-\(UUID().uuidString).xml"
        try Data(node.utf8).write(to: URL(filePath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try await LibvirtHypervisor.open(
            LibvirtConfiguration(connection: .custom("test://\(path)")), logger: Logger(label: "test"))
    }

    @Test func itsOneDomainIsListedWithoutAProcess() async throws {
        let hypervisor = try await open()
        let machines = try await hypervisor.machines()
        #expect(machines.map(\.name) == ["test"])
        #expect(machines.first?.state == .running)
        #expect(machines.first?.process == nil)
        await hypervisor.close()
        await #expect(throws: SwiftletError.self) { try await hypervisor.machines() }
    }

    @Test func destroyingTellsEveryListenerAndIsIdempotent() async throws {
        let hypervisor = try await open()
        let id = try #require(try await hypervisor.machines().first?.id)
        let listeners = [hypervisor.events(), hypervisor.events()]
        try await hypervisor.destroy(id, process: nil)
        for listener in listeners {
            var events = listener.makeAsyncIterator()
            #expect(await events.next() == .stopped(id, .destroyed))
        }
        try await hypervisor.destroy(id, process: nil)
        try await hypervisor.destroy(.random(), process: nil)
        await hypervisor.close()
    }

    @Test func aMachineIsLookedUpByItsID() async throws {
        let hypervisor = try await open()
        let machine = try #require(try await hypervisor.machines().first)
        #expect(try await hypervisor.machine(machine.id) == machine)
        #expect(try await hypervisor.machine(.random()) == nil)
        await hypervisor.close()
    }

    @Test func aMachineIsPausedAndResumedRepeatedly() async throws {
        let hypervisor = try await open()
        let id = try #require(try await hypervisor.machines().first?.id)
        for _ in 0..<2 { try await hypervisor.pause(id) }
        #expect(try await hypervisor.machine(id)?.state == .paused)
        for _ in 0..<2 { try await hypervisor.resume(id) }
        #expect(try await hypervisor.machine(id)?.state == .running)
        await hypervisor.close()
    }

    @Test func aMachineIsAskedToPowerOff() async throws {
        let hypervisor = try await open()
        let id = try #require(try await hypervisor.machines().first?.id)
        let events = hypervisor.events()
        try await hypervisor.shutdown(id)
        #expect(await events.first { if case .stopped(id, _) = $0 { true } else { false } } == .stopped(id, .poweredOff))
        await hypervisor.close()
    }

    @Test func absentMachinesAreNotFound() async throws {
        let hypervisor = try await open()
        for change in [hypervisor.pause, hypervisor.resume, hypervisor.shutdown, hypervisor.reset] {
            await #expect {
                try await change(.random())
            } throws: {
                ($0 as? SwiftletError)?.code == .notFound
            }
        }
        await #expect {
            try await hypervisor.attach([.disk(DiskSpec(path: "/a", serial: "a", readOnly: true))], to: .random())
        } throws: {
            ($0 as? SwiftletError)?.code == .notFound
        }
        await #expect {
            try await hypervisor.detach([.disk(serial: "a")], from: .random())
        } throws: {
            ($0 as? SwiftletError)?.code == .notFound
        }
        await hypervisor.close()
    }

    @Test func whatIsAskedOfAnAbsentMachineIsNotFound() async throws {
        let hypervisor = try await open()
        func expectNotFound(_ call: () async throws -> Void) async {
            await #expect {
                try await call()
            } throws: {
                ($0 as? SwiftletError)?.code == .notFound
            }
        }
        await expectNotFound { _ = try await hypervisor.statistics(.random()) }
        await expectNotFound { _ = try await hypervisor.screenshot(.random()) }
        await expectNotFound { _ = try await hypervisor.domainXML(.random()) }
        await expectNotFound { try await hypervisor.resizeDisk("a", of: .random(), to: 1 << 20) }
        #expect(await hypervisor.lastEnd(ofMachineNamed: "test") == nil)
        let id = try #require(try await hypervisor.machines().first?.id)
        await expectNotFound { try await hypervisor.resizeDisk("a", of: id, to: 1 << 20) }
        #expect(try await hypervisor.domainXML(id).contains("<name>test</name>"))
        await hypervisor.close()
    }

    @Test func automaticMeansTheDaemonOnlyWhereOneListens() throws {
        let socket = "/tmp/swiftlet-auto-\(UUID().uuidString.prefix(8))"
        #expect(LibvirtConfiguration.Connection.automatic(socket: socket, embeddedRoot: "/r") == .embed(root: "/r"))
        let listener = clinux_unix_socket()
        defer { unlink(socket) }
        #expect(clinux_unix_bind(listener, socket, 0o600) == 0 && listen(listener, 1) == 0)
        #expect(LibvirtConfiguration.Connection.automatic(socket: socket, embeddedRoot: "/r") == .system)
        // The daemon is gone and has left its file.
        close(listener)
        #expect(FileManager.default.fileExists(atPath: socket))
        #expect(LibvirtConfiguration.Connection.automatic(socket: socket, embeddedRoot: "/r") == .embed(root: "/r"))
    }

    @Test func nobodyListeningIsUnavailable() async throws {
        let socket = "/tmp/swiftlet-absent-\(UUID())"
        await #expect {
            _ = try await LibvirtHypervisor.open(
                LibvirtConfiguration(connection: .custom("qemu+unix:///system?socket=\(socket)")), logger: Logger(label: "test"))
        } throws: {
            ($0 as? SwiftletError)?.code == .unavailable && "\($0)".contains(socket)
        }
    }
}
