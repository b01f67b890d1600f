import Errors
import Linux
import Machines
import PodMachine
import PodNetwork
import Runtime

/// A machine boots beside the plug-ins' work, with one interface: what else they make is plugged in when its guest runs.
extension MicroVMHandler {
    /// - Throws: `failedPrecondition` naming the interface that a machine cannot have.
    static func requirePluggable(_ interfaces: [AttachedInterface]) throws {
        for interface in interfaces where MACAddress(interface.mac) == nil {
            throw SwiftletError(
                .failedPrecondition,
                "the CNI plug-ins made \(quoted(interface.name)), which is no Ethernet interface: a guest cannot have it")
        }
        guard interfaces.count > MachineNames.mostFurtherInterfaces else { return }
        let made = interfaces.map { quoted($0.name) }.joined(separator: ", ")
        throw SwiftletError(
            .failedPrecondition,
            "the CNI plug-ins made \(interfaces.count) interfaces beside the first one (\(made)); a machine takes "
                + "\(MachineNames.mostFurtherInterfaces)")
    }

    /// Gives the running machine an interface for each.
    func plugIn(_ interfaces: [AttachedInterface], _ names: MachineNames, _ context: SandboxContext) async throws {
        guard !interfaces.isEmpty else { return }
        let devices = (1...interfaces.count).map { InterfaceSpec(tap: names.furtherTap($0), mac: names.furtherMAC($0)) }
        for device in devices {
            try await machines.acquireTap(device.tap, for: names.user, namespace: context.network.namespacePath, context.ledger)
        }
        try await hypervisor.attach(devices.map { .interface($0) }, to: names.machine)
        for (device, interface) in zip(devices, interfaces) {
            try await context.network.join(tap: device.tap, with: interface)
        }
    }
}
