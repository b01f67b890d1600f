/// The guest's vsock device: libvirt's own where the kernel serves it, QEMU's vhost-user device otherwise.
struct Vsock: DomainConfigurator {
    /// Ids on QEMU's side, which whoever replaces a dead backend needs.
    static let chardev = "vu0"
    static let device = "uvsock0"

    func configure(_ spec: VMSpec, _ domain: inout DomainDocument) {
        switch spec.vsock {
        case .kernel(let cid):
            domain.devices.append(XMLTag("vsock", ["model": "virtio"], [XMLTag("cid", ["auto": "no", "address": "\(cid)"])]))
        case .vhostUser(let socket, _):
            // libvirt has no such device and would give a port of its own away: this one gets a port libvirt never sees,
            // in a slot it does not come to (it fills the root complex from below). Chassis numbers must differ.
            let port = #"{"driver":"pcie-root-port","id":"pci.vsock","bus":"pcie.0","addr":"0x1c","port":224,"chassis":224}"#
            // Only the JSON form finds a bus that another argument has made.
            let device =
                #"{"driver":"vhost-user-vsock-pci","chardev":"\#(Self.chardev)","id":"\#(Self.device)","bus":"pci.vsock","addr":"0x0"}"#
            // QEMU's option syntax doubles commas.
            let path = socket.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,")
            domain.emulatorArguments += [
                "-chardev", "socket,id=\(Self.chardev),path=\(path)", "-device", port, "-device", device,
            ]
        }
    }
}
