import Concurrency
import Errors
import Foundation
import Glibc
import Linux
import Machines
import PodMachine
import Runtime

/// Pods are found by their directories and scratch disks below the daemon's root, which no other daemon uses: a machine of another
/// daemon under the same libvirt is nobody's leftover here.
extension MicroVMHandler {
    public func leftovers(besides isKnown: @Sendable (_ pod: String) -> Bool) async throws -> [Leftover] {
        let (directory, scratch) = (configuration.stateDirectory, scratch.directory)
        let pods = try await OwnThread.run { try Self.pods(in: directory, scratch) }.filter { !isKnown($0) }
        guard !pods.isEmpty else { return [] }
        // Without an answer nothing is found: a machine's disk is not taken away while it may run.
        let machines = try await hypervisor.machines()
        return try pods.sorted().flatMap { pod in
            try leftovers(of: pod, machine: machines.first { $0.name == MachineNames(id: pod, configuration: configuration).domain })
        }
    }

    private static func pods(in directory: String, _ scratch: String) throws -> Set<String> {
        let files = FileManager.default
        let directories = try files.contentsOfDirectory(atPath: directory).filter { Leftover.isPodPrefix($0) }
        let disks = try files.contentsOfDirectory(atPath: scratch).filter { $0.hasSuffix(".img") }.map { String($0.dropLast(4)) }
        return Set(directories).union(disks.filter { Leftover.isPodPrefix($0) })
    }

    /// All that the pod may have, in the order of acquisition: a release of what is not there succeeds.
    private func leftovers(of pod: String, machine: Machine?) throws -> [Leftover] {
        let names = MachineNames(id: pod, configuration: configuration)
        let nothing = EmptyDocument()
        var found = [
            try Leftover(pod: pod, kind: .directory, name: names.runDirectory, document: nothing),
            try Leftover(pod: pod, kind: .directory, name: names.stateDirectory, document: nothing),
        ]
        var disk = stat()
        if lstat(names.scratchDisk, &disk) == 0, configuration.users.ids.contains(disk.st_uid) {
            found.append(try Leftover(pod: pod, kind: .userProcesses, name: "\(disk.st_uid)", document: nothing))
        }
        found += [
            try Leftover(pod: pod, kind: .vsockDevice, name: names.hostSocket, document: ProcessDocument(process: nil)),
            try Leftover(pod: pod, kind: .scratchDisk, name: names.scratchDisk, document: nothing),
        ]
        let tap = TapDocument(namespace: machines.networks.namespacePath(of: pod))
        for name in [names.tap] + (1...MachineNames.mostFurtherInterfaces).map(names.furtherTap) {
            found.append(try Leftover(pod: pod, kind: .tap, name: name, document: tap))
        }
        if let machine {
            found.append(
                try Leftover(
                    pod: pod, kind: .machine, name: machine.id.uuid.uuidString,
                    document: MachineDocument(process: machine.process, contextID: nil, domain: machine.name, keepsNothing: true)))
        }
        found.append(try Leftover(pod: pod, kind: .share, name: names.shareDirectory, document: nothing))
        found.append(try Leftover(pod: pod, kind: .shareDaemon, name: names.shareDirectory, document: ProcessDocument(process: nil)))
        return found
    }
}
