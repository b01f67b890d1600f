import Runtime

extension MicroVMConfiguration {
    /// The disk with the kernel's modules on demand, plugged in like a layer: for the containers that the kernel asks for modules on
    /// behalf of, those that may administer networks. Other pods have none, and their kernels load nothing.
    func modulesDisk(for spec: ContainerSpec) -> LayerImage? {
        guard let modules, Capability.held(spec.capabilities, privileged: spec.privileged).contains("CAP_NET_ADMIN") else { return nil }
        return LayerImage(path: modules, serial: "modules", filesystem: "erofs", sizeBytes: 0)
    }
}
