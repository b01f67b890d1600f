import Errors
import Foundation
import Linux
import Machines
import Synchronization

/// A hypervisor without machines. It outlives the daemon, and brings up what stands for a machine's guest.
final class FakeHypervisor: Hypervisor {
    private let guests = Mutex<[UUID: InProcessGuest]>([:])

    var running: Set<UUID> { guests.withLock { Set($0.keys) } }

    func start(_ spec: VMSpec) async throws -> ProcessIdentity {
        guard case .vhostUser(let device, _) = spec.vsock else { throw SwiftletError(.invalidArgument, "no vsock proxy") }
        guard let process = ProcessIdentity.of(getpid()) else { throw SwiftletError(.internal, "no process") }
        guard !running.contains(spec.uuid) else { return process }
        // The handler dials the device's other socket, which stands beside the one that QEMU gets.
        let socket = device.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/") + "/vsock"
        let guest = try InProcessGuest(at: socket)
        guests.withLock { $0[spec.uuid] = guest }
        return process
    }

    func destroy(uuid: UUID, process: ProcessIdentity?) async throws {
        guests.withLock { $0.removeValue(forKey: uuid) }?.end()
    }

    func attachDisk(_ disk: DiskSpec, to uuid: UUID) async throws {}
    func detachDisk(serial: String, from uuid: UUID) async throws {}
    func attachFilesystem(_ filesystem: FilesystemSpec, to uuid: UUID) async throws {}
    func grow(_ uuid: UUID, to extent: MachineExtent) async throws -> MachineExtent { extent }

    func domains() async throws -> [DomainSummary] {
        running.map { DomainSummary(uuid: $0, name: "\($0)", state: .running, process: .of(getpid())) }
    }

    func events() -> AsyncStream<DomainEvent> { AsyncStream { $0.finish() } }
    func close() async {}
}
