/// The guest's vsock device: libvirt's own where the kernel serves it, QEMU's vhost-user device otherwise.
struct Vsock: DomainConfigurator {
    /// Ids on QEMU's side, which whoever replaces a dead backend needs.
    static let chardev = "vu0"
    static let device = "uvsock0"
    static let port = "pci.vsock"

    /// libvirt's element of the kernel's device.
    static func tag(cid: UInt32) -> XMLTag { XMLTag("vsock", ["model": "virtio"], [XMLTag("cid", ["auto": "no", "address": "\(cid)"])]) }

    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        switch spec.vsock {
        case nil: break
        case .kernel(let cid):
            domain.devices.append(Self.tag(cid: cid))
        case .vhostUser(let socket, _):
            // libvirt has no such device and would give a port of its own away: this one gets a port libvirt never sees,
            // in a slot it does not come to (it fills the root complex from below). Chassis numbers must differ.
            let port = #"{"driver":"pcie-root-port","id":"\#(Self.port)","bus":"pcie.0","addr":"0x1c","port":224,"chassis":224}"#
            // Only the JSON form finds a bus that another argument has made.
            let device =
                #"{"driver":"vhost-user-vsock-pci","chardev":"\#(Self.chardev)","id":"\#(Self.device)","bus":"\#(Self.port)","addr":"0x0"}"#
            // QEMU's option syntax doubles commas.
            let path = socket.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,")
            domain.emulatorArguments += [
                "-chardev", "socket,id=\(Self.chardev),path=\(path)", "-device", port, "-device", device,
            ]
        }
    }

    /// The domain without QEMU's vhost-user device, which keeps the port that it sat in: what can be saved after the device was
    /// unplugged.
    static func withoutDevice(_ domain: XMLTag) -> XMLTag {
        var domain = domain
        guard let index = domain.children.firstIndex(where: { $0.name == "qemu:commandline" }) else { return domain }
        let arguments = domain.children[index].all("qemu:arg")
        var kept: [XMLTag] = []
        var position = 0
        while position < arguments.count {
            let value = position + 1 < arguments.count ? arguments[position + 1].attribute("value") ?? "" : ""
            let isOurs =
                switch arguments[position].attribute("value") {
                case "-chardev": value.hasPrefix("socket,id=\(chardev),")
                case "-device": value.contains(#""id":"\#(device)""#)
                default: false
                }
            if isOurs {
                position += 2
            } else {
                kept.append(arguments[position])
                position += 1
            }
        }
        domain.children[index].children = kept
        return domain
    }
}
