import Errors
import Foundation
import Logging
import Machines
import Testing

/// libvirt's own pretend hypervisor: the real client library without a daemon or QEMU.
struct TestDriverTests {
    private func open() async throws -> LibvirtHypervisor {
        try await LibvirtHypervisor.open(LibvirtConfiguration(connection: .custom("test:///default")), logger: Logger(label: "test"))
    }

    @Test func itsOneDomainIsListedWithoutAProcess() async throws {
        let hypervisor = try await open()
        let domains = try await hypervisor.domains()
        #expect(domains.map(\.name) == ["test"])
        #expect(domains.first?.state == .running)
        #expect(domains.first?.process == nil)
        await hypervisor.close()
        await #expect(throws: SwiftletError.self) { try await hypervisor.domains() }
    }

    @Test func destroyingTellsEveryListenerAndIsIdempotent() async throws {
        let hypervisor = try await open()
        let uuid = try #require(try await hypervisor.domains().first?.uuid)
        let listeners = [hypervisor.events(), hypervisor.events()]
        try await hypervisor.destroy(uuid: uuid, process: nil)
        for listener in listeners {
            var events = listener.makeAsyncIterator()
            #expect(await events.next() == .stopped(uuid, reason: "destroyed"))
        }
        try await hypervisor.destroy(uuid: uuid, process: nil)
        try await hypervisor.destroy(uuid: UUID(), process: nil)
        await hypervisor.close()
    }

    @Test func absentMachinesAreNotFound() async throws {
        let hypervisor = try await open()
        await #expect {
            try await hypervisor.attachDisk(DiskSpec(path: "/a", serial: "a", readOnly: true), to: UUID())
        } throws: {
            ($0 as? SwiftletError)?.code == .notFound
        }
        await #expect {
            try await hypervisor.detachDisk(serial: "a", from: UUID())
        } throws: {
            ($0 as? SwiftletError)?.code == .notFound
        }
        await hypervisor.close()
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
