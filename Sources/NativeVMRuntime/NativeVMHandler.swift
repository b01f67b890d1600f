import CloudInit
import Concurrency
import DHCP
import Errors
import Foundation
import Glibc
import Linux
import Logging
import Machines
import PodMachine
import QemuGuestAgent
import Runtime

/// Runs each pod's container as a virtual machine that boots from a disk image.
///
/// The sandbox is the pod's network alone. All else is the container's: its machine is made with it, boots when it is started, and the
/// container ends when the machine does.
public final class NativeVMHandler: RuntimeHandler {
    public let name = "vm"
    let configuration: NativeVMConfiguration
    let machines: MachineResources
    let logger: Logger
    /// Answer the guests' DHCP clients.
    let responders: AddressResponders
    var roots: PersistentRoots { machines.roots }
    /// For guests' agents to be waited for: a guest keeps one thread at most, and none for longer than an answer may take.
    let agents = BlockingPool("guest agents", threads: 64)
    let largeReplies = LargeReplies()

    /// - Parameter machines: of the whole node.
    public init(configuration: NativeVMConfiguration, machines: MachineResources, logger: Logger) throws {
        self.configuration = configuration
        self.machines = machines
        self.logger = logger
        responders = try AddressResponders(logger: logger)
        // QEMU's user must reach its sockets and disks, and nobody may list them.
        for directory in [configuration.runDirectory, configuration.stateDirectory] { try Directory.create(directory, mode: 0o711) }
    }

    deinit { agents.close() }

    public var capabilities: HandlerCapabilities {
        var capabilities = HandlerCapabilities()
        capabilities.images = [.disk]
        capabilities.devices = nil
        return capabilities
    }

    public func obstacle() async -> String? {
        do {
            _ = try await withDeadline(.seconds(5), "ask libvirt") { [machines] in
                // One that does not exist: the question is whether there is an answer.
                try await machines.hypervisor.machine(MachineID(VMNames.nobody))
            }
            return nil
        } catch {
            return "\(error)"
        }
    }

    public func start(_ context: SandboxContext) async throws -> any Sandbox {
        // Before the network: a pod that cannot have a machine needs none.
        _ = try VMAnnotations(pod: context.spec.annotations)
        guard let network = try await context.network.attached().attached else {
            throw SwiftletError(.invalidArgument, "a machine cannot have the node's network")
        }
        let directory = VMNames.podDirectory(context.id, configuration)
        try await context.ledger.acquire(.directory, directory) {
            try await OwnThread.run { try Directory.create(directory, mode: 0o711) }
        }
        return VMSandbox(context, network, self, [])
    }

    public func reattach(_ context: SandboxContext) async throws -> any Sandbox {
        guard let network = try await context.network.attached().attached else {
            throw SwiftletError(.notFound, "the record says nothing of the pod's network")
        }
        guard let namespace = context.network.namespacePath, await OwnThread.answer({ NetworkNamespace.isBound(at: namespace) }) else {
            throw SwiftletError(.notFound, "the pod's network namespace is gone")
        }
        let directory = VMNames.podDirectory(context.id, configuration)
        let records = try await OwnThread.run { try VMRecord.all(in: directory) }
        let sandbox = VMSandbox(context, network, self, records)
        for record in records where record.isStarted && record.end == nil { try await sandbox.find(record) }
        return sandbox
    }

    // MARK: Leftovers

    /// Pods are found by their directories below the daemon's root, which no other daemon uses.
    public func leftovers(besides isKnown: @Sendable (_ pod: String) -> Bool) async throws -> [Leftover] {
        let configuration = configuration
        let directory = configuration.stateDirectory
        let pods = try await OwnThread.run { try Self.ids(in: directory) }.filter { !isKnown($0) }
        guard !pods.isEmpty else { return [] }
        // Without an answer nothing is found: a machine's disk is not taken away while it may run.
        let running = try await machines.hypervisor.machines()
        var found: [Leftover] = []
        for pod in pods.sorted() {
            found.append(try Leftover(pod: pod, kind: .directory, name: "\(directory)/\(pod)", document: EmptyDocument()))
            let roots = "\(directory)/\(pod)/\(VMNames.rootFolder)"
            for name in try await OwnThread.run({ try Self.names(in: roots) }) where name.hasPrefix(VMNames.copyPrefix) {
                found.append(try Self.lentFile("\(roots)/\(name)", of: pod))
            }
            for container in try await OwnThread.run({ try Self.ids(in: "\(directory)/\(pod)") }) {
                found += try leftovers(of: container, in: pod, running)
            }
        }
        return found
    }

    /// Whose it was is not known: the next machine that it is lent to gives it back to its volume's owner.
    private static func lentFile(_ place: String, of pod: String) throws -> Leftover {
        try Leftover(pod: pod, kind: .volumeFile, name: place, document: LentFileDocument(user: nil, owner: nil))
    }

    private static func names(in directory: String) throws -> [String] {
        do { return try FileManager.default.contentsOfDirectory(atPath: directory) } catch CocoaError.fileReadNoSuchFile { return [] }
    }

    private static func ids(in directory: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: directory).filter { Leftover.isPodPrefix($0) }
    }

    private func leftovers(of container: String, in pod: String, _ running: [Machine]) throws -> [Leftover] {
        let names = VMNames(pod: pod, container: container, configuration: configuration)
        var found = [
            try Leftover(pod: pod, kind: .directory, name: names.runDirectory, document: EmptyDocument()),
            try Leftover(pod: pod, kind: .vsockDevice, name: names.hostSocket, document: ProcessDocument(process: nil)),
        ]
        var disk = stat()
        if lstat(names.rootDisk, &disk) == 0, machines.users.range.ids.contains(disk.st_uid) {
            found.append(try Leftover(pod: pod, kind: .userProcesses, name: "\(disk.st_uid)", document: EmptyDocument()))
        }
        found += [
            try Leftover(pod: pod, kind: .share, name: names.shareDirectory, document: EmptyDocument()),
            try Leftover(pod: pod, kind: .shareDaemon, name: names.shareDirectory, document: ProcessDocument(process: nil)),
            try Leftover(pod: pod, kind: .tpm, name: names.tpmSocket, document: ProcessDocument(process: nil)),
        ]
        for place in [names.rootImage, names.variables] { found.append(try Self.lentFile(place, of: pod)) }
        let tap = TapDocument(namespace: machines.networks.namespacePath(of: pod))
        for number in 0...VMNames.mostFurtherInterfaces {
            found.append(try Leftover(pod: pod, kind: .tap, name: names.tap(number), document: tap))
        }
        if let machine = running.first(where: { $0.name == names.domain }) {
            let document = MachineDocument(process: machine.process, contextID: nil, domain: machine.name)
            found.append(try Leftover(pod: pod, kind: .machine, name: machine.id.uuid.uuidString, document: document))
        }
        return found
    }
}

extension VMRecord {
    /// Of all machines of a pod: none where there is no file, as of a creation that was not finished.
    ///
    /// - Throws: `.dataLoss` for one that cannot be read.
    static func all(in directory: String) throws -> [VMRecord] {
        let names: [String]
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: directory)
        } catch CocoaError.fileReadNoSuchFile {
            return []
        }
        return try names.compactMap { name in
            do {
                return try read("\(directory)/\(name)/machine.json")
            } catch let error as SwiftletError where error.code == .notFound {
                return nil
            }
        }
    }
}
