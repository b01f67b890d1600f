/// A TPM 2.0 that a swtpm emulates.
///
/// libvirt would start one of its own, in directories that only its own QEMU user comes to: this one is the machine's user, as QEMU is.
struct TPM: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        guard let tpm = spec.tpm else { return }
        // QEMU's option syntax doubles commas.
        let path = tpm.socket.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,")
        domain.emulatorArguments += [
            "-chardev", "socket,id=tpm,path=\(path)", "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,id=tpm1,tpmdev=tpm0",
        ]
    }
}
