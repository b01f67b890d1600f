/// Ports of virtio-serial, each on a socket of its own.
///
/// libvirt would speak to a guest agent on its port itself, and its client is lost for good to an answer of more than 10 MiB: these
/// ports are QEMU's alone.
struct Channels: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        for (index, channel) in spec.channels.enumerated() {
            // QEMU's option syntax doubles commas.
            let path = channel.socket.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,")
            // Port 0 is kept for a console. The controller is libvirt's; only the JSON form finds it.
            let port =
                #"{"driver":"virtserialport","bus":"virtio-serial0.0","nr":\#(index + 1),"chardev":"channel\#(index)","#
                + #""id":"port\#(index)","name":"\#(channel.name)"}"#
            domain.emulatorArguments += [
                "-chardev", "socket,id=channel\(index),path=\(path),server=on,wait=off", "-device", port,
            ]
        }
    }
}
