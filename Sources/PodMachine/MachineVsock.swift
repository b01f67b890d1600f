import Errors
import Linux
import Machines
import Runtime

/// Where a machine's vsock device and the host meet.
package struct VsockPlace: Sendable {
    /// QEMU connects here; its user alone can.
    package var vhostSocket: String
    /// The host reaches the guest's ports here.
    package var hostSocket: String
    /// What the backend prints.
    package var log: String
    /// The context id that the guest has.
    package var contextID: UInt32
    package var user: MachineUser

    package init(vhostSocket: String, hostSocket: String, log: String, contextID: UInt32, user: MachineUser) {
        self.vhostSocket = vhostSocket
        self.hostSocket = hostSocket
        self.log = log
        self.contextID = contextID
        self.user = user
    }
}

/// The vsock devices that this node gives its machines.
public struct VsockDevices: Sendable {
    package let support: VsockSupport
    private let backend: VsockBackend

    /// - Parameters:
    ///   - backend: swiftlet-vsockd, for nodes without /dev/vhost-vsock.
    ///   - users: whom backends run as.
    public init(_ support: VsockSupport, backend: String, users: UserRange) {
        self.support = support
        self.backend = VsockBackend(binary: backend, users: users)
    }

    package func device(_ place: VsockPlace) -> VsockDeviceSpec {
        support == .vhostUser ? .vhostUser(socket: place.vhostSocket, cid: place.contextID) : .kernel(cid: place.contextID)
    }

    package func address(_ place: VsockPlace) -> VsockAddress {
        support == .vhostUser ? .unixProxy(path: place.hostSocket) : .kernel(cid: place.contextID)
    }

    /// Starts what serves the machine's device, before the machine.
    package func start(_ place: VsockPlace, _ ledger: Ledger) async throws {
        guard support == .vhostUser else { return }
        do {
            try await ledger.acquire(.vsockDevice, place.hostSocket, ProcessDocument(process: nil)) {
                let process = try await backend.start(
                    vhostSocket: place.vhostSocket, hostSocket: place.hostSocket, cid: place.contextID, log: place.log, user: place.user)
                try await ledger.note(.vsockDevice, place.hostSocket, ProcessDocument(process: process))
            }
        } catch {
            throw SwiftletError.wrap(error, "start the vsock device")
        }
    }

    package var releaser: ResourceReleaser {
        let backend = backend
        return ResourceReleaser(.vsockDevice) { entry in try await backend.stop(hostSocket: entry.name, process: entry.process) }
    }
}
