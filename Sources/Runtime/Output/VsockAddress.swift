/// Where a guest's vsock ports are reached from the host.
public enum VsockAddress: Sendable, Codable, Hashable {
    /// A unix socket that takes `CONNECT <port>\n`, answers `OK <port>\n`, and then carries the bytes (swiftlet-vsockd).
    case unixProxy(path: String)
    /// The kernel's vhost-vsock device with this context id.
    case kernel(cid: UInt32)
}
