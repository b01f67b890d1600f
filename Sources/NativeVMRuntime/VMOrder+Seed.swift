import CloudInit
import Concurrency
import Errors
import Glibc
import Machines
import PodMachine
import Runtime
import Volumes

extension VMOrder {
    func makeSeed() async throws {
        guard let format = annotations.seedFormat else { return }
        let (order, path, user) = (self, names.seed, user)
        try await OwnThread.run {
            try Seed(try order.seedRequest(), format: format).write(to: path)
            guard chown(path, user.uid, user.gid) == 0 else { throw SwiftletError.system("chown \(path)") }
        }
    }

    private static let memoryCommand =
        "[ -w /sys/devices/system/memory/auto_online_blocks ] && echo online_movable >/sys/devices/system/memory/auto_online_blocks"

    private func seedRequest() throws -> SeedRequest {
        var request = SeedRequest(
            pod: pod.metadata, hostname: pod.effectiveHostname, annotations: annotations,
            data: try annotations.seedData(from: plan.spec.mounts), network: network)
        if let dns = pod.dns { request.dns = dns }
        if root != nil { request.bootCommands.append(PersistentRoot.networkCommand) }
        // Linux leaves memory that was plugged in unused unless it is told.
        if growth != nil { request.bootCommands.append(Self.memoryCommand) }
        request.environment = plan.spec.environment.map { RawText(bytes: Array("\($0.key)=".utf8) + $0.value.bytes) }
        request.shares = try shared.map { shared in
            GuestShare(
                tag: MachineShare.tag, subPath: "\(names.container)/\(shared.index)", path: shared.mount.containerPath,
                isReadOnly: shared.mount.readOnly, isFile: !(try HostPath(shared.mount.hostPath).isDirectory))
        }
        request.disks =
            annotations.dataVolumes.map { GuestDisk($0, bus: annotations.diskBus) }
            + blockDevices.map { _, device in
                GuestDisk(
                    serial: bus.serial(of: Self.name(of: device)), bus: annotations.diskBus, devicePath: device.containerPath)
            }
        if toolsDisk != nil { request.bootCommands += AgentStart.commands }
        return request
    }
}
