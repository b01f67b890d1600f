import CLinux
import Concurrency
import Errors
import Glibc
import Linux
import Runtime
import Synchronization

/// The layers of images, each mounted once on the node and shared by all containers that have it.
///
/// An overlay keeps the filesystems that it was stacked from: what is unmounted here early costs containers to come their share of the
/// page cache and nobody anything else.
final class LayerMounts: Sendable {
    let directory: String
    /// MS_RDONLY, mount(2).
    private static let readOnly: UInt = 1
    /// Containers by the layer's serial.
    private let users = Mutex<[String: Set<String>]>([:])
    private let changes = SerialQueue()

    init(directory: String) { self.directory = directory }

    private func path(_ serial: String) -> String { "\(directory)/\(serial)" }

    /// - Returns: where the layers are, in their order.
    func mount(_ layers: [LayerImage], for user: String) async throws -> [String] {
        try await changes.run { [self] in
            for layer in layers {
                // Before: what fails is released as what does not.
                users.withLock { _ = $0[layer.serial, default: []].insert(user) }
                let path = path(layer.serial)
                try await OwnThread.run { try Self.mountNow(layer, at: path) }
            }
            return layers.map { path($0.serial) }
        }
    }

    /// Notes the layers of a container of an earlier daemon.
    func restore(_ serials: [String], of user: String) {
        users.withLock { users in
            for serial in serials { users[serial, default: []].insert(user) }
        }
    }

    /// Unmounts the layers that nobody else uses. Idempotent.
    func leave(_ serials: [String], _ user: String) async throws {
        try await changes.run { [self] in
            for serial in serials {
                let isLast = users.withLock { users in
                    users[serial]?.remove(user)
                    if users[serial]?.isEmpty == true { users[serial] = nil }
                    return users[serial] == nil
                }
                guard isLast else { continue }
                let path = path(serial)
                try await OwnThread.run {
                    try NodeMount.remove(path)
                    guard rmdir(path) == 0 || errno == ENOENT else { throw SwiftletError.system("remove \(path)") }
                }
            }
        }
    }

    private static func mountNow(_ layer: LayerImage, at path: String) throws {
        guard mkdir(path, 0o700) == 0 || errno == EEXIST else { throw SwiftletError.system("make \(path)") }
        guard !NodeMount.isMountPoint(path) else { return }
        // From the file itself, without a loop device: Linux 6.12 with CONFIG_EROFS_FS_BACKED_BY_FILE.
        let flags = UInt(CLINUX_MS_NODEV) | Self.readOnly
        guard Glibc.mount(layer.path, path, layer.filesystem, flags, nil) == 0 else {
            let error = SwiftletError.system("mount layer \(layer.path) (\(layer.filesystem)) at \(path)")
            guard error.systemErrno == ENOTBLK || error.systemErrno == ENODEV else { throw error }
            throw SwiftletError(
                .failedPrecondition, "the node's kernel does not mount EROFS from files, which containers on the node need (Linux 6.12)",
                cause: error)
        }
    }
}
