import CLibvirt
import Errors
import Foundation

/// QEMU's vhost-user vsock device, which libvirt does not know: it is changed through QEMU's monitor (QMP).
extension DomainPointer {
    func hasVhostUserVsock(_ step: String) throws -> Bool {
        let answer = try monitor("qom-list", ["path": "/machine/peripheral"], step)
        return (answer as? [[String: Any]] ?? []).contains { $0["name"] as? String == Vsock.device }
    }

    /// Plugs the device in; its backend listens on `socket`.
    ///
    /// - Returns: whether it was not there before.
    func plugVsock(socket: String, _ step: String) throws -> Bool {
        if try hasVhostUserVsock(step) { return false }
        // One that an earlier device has left behind is connected to a backend that has ended.
        _ = try? monitor("chardev-remove", ["id": Vsock.chardev], step)
        let address: [String: Any] = ["type": "unix", "data": ["path": socket]]
        let backend: [String: Any] = ["type": "socket", "data": ["addr": address, "server": false] as [String: Any]]
        _ = try monitor("chardev-add", ["id": Vsock.chardev, "backend": backend], step)
        let device = ["driver": "vhost-user-vsock-pci", "chardev": Vsock.chardev, "id": Vsock.device, "bus": Vsock.port, "addr": "0x0"]
        _ = try monitor("device_add", device, step)
        return true
    }

    /// Asks the guest to let go of the device.
    func unplugVsock(_ step: String) throws {
        if try hasVhostUserVsock(step) { _ = try monitor("device_del", ["id": Vsock.device], step) }
    }

    /// Runs one command of QEMU's monitor (QEMU QMP Reference Manual).
    ///
    /// - Returns: what it returns.
    /// - Throws: `internal` with QEMU's words.
    private func monitor(_ command: String, _ arguments: [String: Any], _ step: String) throws -> Any {
        let request = try JSONSerialization.data(withJSONObject: ["execute": command, "arguments": arguments])
        var reply: UnsafeMutablePointer<CChar>?
        guard virDomainQemuMonitorCommand(pointer, String(decoding: request, as: UTF8.self), &reply, 0) == 0, let reply else {
            throw SwiftletError.libvirt("\(step): \(command)")
        }
        defer { free(reply) }
        let answer = try JSONSerialization.jsonObject(with: Data(String(cString: reply).utf8)) as? [String: Any] ?? [:]
        if let error = answer["error"] as? [String: Any] {
            throw SwiftletError(.internal, "\(step): \(command): QEMU: \(error["desc"] as? String ?? "unknown error")")
        }
        return answer["return"] ?? [String: Any]()
    }
}
