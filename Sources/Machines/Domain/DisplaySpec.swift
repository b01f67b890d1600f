/// A display device, which a picture can be taken of.
public struct DisplaySpec: Sendable, Codable, Equatable {
    /// Where QEMU serves VNC, to whoever can connect: the only protection is the directory's. QEMU makes it, so its user must be able to
    /// write to the directory. At most 107 bytes; nil: no VNC.
    public var vncSocket: String?
    /// The render node by which guests draw in 3D (virgl), readable and writable by QEMU's user, proved by `VirglProbe`; nil: none.
    public var renderNode: String?

    public init(vncSocket: String? = nil, renderNode: String? = nil) {
        self.vncSocket = vncSocket
        self.renderNode = renderNode
    }

    func validate() throws {
        if let vncSocket { try MachineSpec.checkSocket(vncSocket) }
        if let renderNode { try MachineSpec.checkPath(renderNode) }
    }
}
