/// QEMU's user, without the change of owners that libvirt makes by default.
///
/// By default libvirt makes QEMU's user the owner of every file of a domain, kernel and initramfs included. All machines
/// share those, and layers, and an owner may write. With the domain's label static nothing changes hands; libvirt allows no
/// labels of single disks then, and none are needed. Everything else of libvirt's confinement stays as it is configured.
///
/// libvirt gives a numeric user no supplementary groups: a user without an account is in its label's group alone. That group is
/// /dev/kvm's, and the one that libvirt's own directories are open to.
struct SecurityLabel: DomainConfigurator {
    /// Of machines without a user of their own.
    let dac: String?

    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        guard let dac = spec.user.map({ "+\($0.uid):+\($0.gid)" }) ?? dac else { return }
        domain.labels.append(XMLTag("seclabel", ["type": "static", "model": "dac", "relabel": "no"], [XMLTag("label", text: dac)]))
    }
}
