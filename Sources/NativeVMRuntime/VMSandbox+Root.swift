import Concurrency
import Errors
import Foundation
import Glibc
import Linux
import Machines
import PodMachine
import Runtime
import Volumes

extension VMSandbox {
    /// Takes the disk that outlives the container's machine, and writes the image to it where it holds none.
    ///
    /// - Returns: nil where the root disk goes with the container.
    /// - Throws: `.unavailable` while the image is being written: the next creation waits for that.
    func prepareRoot(_ order: VMOrder, _ ledger: Ledger) async throws -> RootDiskKey? {
        guard let root = order.root else { return nil }
        let names = order.names
        do {
            switch root {
            case .device(let device):
                let key = try await OwnThread.run { try RootDiskKey(device: device.hostPath) }
                try await take(key, for: names, ledger)
                try await handler.roots.write(order.image.digest, to: key, pod: context.id) { [self] in
                    try await write(order, to: device, key)
                }
                return key
            case .file(let mount):
                let file = try await OwnThread.run { try VolumeFile(PersistentRoot.fileName, in: try HostPath(mount.hostPath)) }
                let key = RootDiskKey(name: "file \(file.volumeID)", description: "file \(file.path)")
                try await take(key, for: names, ledger)
                try await handler.roots.write(order.image.digest, to: key, pod: context.id) { [self] in
                    try await write(order, to: file, key)
                }
                return key
            }
        } catch {
            handler.roots.letGo(container: names.container)
            throw SwiftletError.wrap(error, "root disk \(root)")
        }
    }

    /// Takes the volume that keeps what the machine has beside its root disk, where it is another than that disk's.
    func takeState(_ order: VMOrder, beside root: RootDiskKey?, _ ledger: Ledger) async throws -> RootDiskKey? {
        guard let volume = order.stateVolume, order.annotations.stateVolume != nil else { return nil }
        do {
            let file = try await OwnThread.run { try VolumeFile(PersistentRoot.tpmName, in: try HostPath(volume.hostPath)) }
            let key = RootDiskKey(name: "file \(file.volumeID)", description: "volume \(file.volumePath)")
            guard key.name != root?.name else { return nil }
            try await take(key, for: order.names, ledger)
            return key
        } catch {
            throw SwiftletError.wrap(error, PersistentRoot.stateAnnotation)
        }
    }

    /// However the container ends, the disk is let go when its ledger is released: after its machine, which is noted later.
    private func take(_ key: RootDiskKey, for names: VMNames, _ ledger: Ledger) async throws {
        let (roots, pod) = (handler.roots, context.id)
        try await ledger.acquire(.rootDisk, key.name, RootDiskDocument(machine: names.machine.uuid.uuidString)) {
            try roots.hold(key, pod: pod, container: names.container)
        }
    }

    /// At the start another pod may have the disk whose container was made later.
    func holdRoot(of id: String) throws {
        let record = entries.withLock { $0[id]?.record }
        for key in [record?.root, record?.state].compactMap(\.self) { try handler.roots.hold(key, pod: context.id, container: id) }
    }

    // MARK: The image

    private func write(_ order: VMOrder, to device: ContainerDevice, _ key: RootDiskKey) async throws {
        let (disk, written) = (order.names.copyTarget(key), WrittenRoot(order, key))
        try await context.ledger.acquire(.rootCopy, key.name) {}
        try await OwnThread.run {
            try Directory.create(order.names.rootDirectory, mode: 0o711)
            try BlockDeviceNode.create(disk, of: device.hostPath, readOnly: false, owner: MachineUser(uid: 0, gid: 0))
        }
        defer { unlink(disk) }
        let (content, bytes) = try await OwnThread.run { try DiskCopy.look(at: disk) }
        if let size = order.annotations.rootSize, size > bytes {
            throw SwiftletError(
                .failedPrecondition, "swiftlet/root-size or VirtletRootVolumeSize asks for \(size) bytes; the volume has \(bytes)")
        }
        guard try needsImage(content, order, written) else { return }
        let user = try await copier()
        try await OwnThread.run { try BlockDeviceNode.create(disk, of: device.hostPath, readOnly: false, owner: user) }
        try await copy(order, to: disk, key, user)
        try await OwnThread.run { try written.note() }
    }

    /// Beside the file that is to be the disk, which takes its place when it is whole.
    private func write(_ order: VMOrder, to file: VolumeFile, _ key: RootDiskKey) async throws {
        let (place, written) = (order.names.copyTarget(key), WrittenRoot(order, key))
        try await context.ledger.acquire(.rootCopy, key.name) {}
        let content = try await OwnThread.run {
            try Directory.create(order.names.rootDirectory, mode: 0o711)
            return try file.ownership() == nil ? .blank : try DiskCopy.look(at: file.path).content
        }
        guard try needsImage(content, order, written) else { return }
        let user = try await copier()
        let partial = file.beside(PersistentRoot.fileName + ".swiftlet")
        let owner = partial.expectedOwnership
        do {
            // A daemon that is killed leaves a part of it.
            let document = LentFileDocument(user: user.uid, owner: owner, partial: .init(partial))
            try await context.ledger.acquire(.volumeFile, place, document) {
                try await OwnThread.run {
                    try partial.make()
                    try partial.lend(at: place, to: user.uid, user.gid)
                }
            }
            try await copy(order, to: place, key, user)
            try await OwnThread.run {
                try VolumeFile.giveBack(place, from: user.uid, to: owner)
                try partial.replace(file)
                try written.note()
            }
            try? await context.ledger.note(.volumeFile, place, LentFileDocument(user: user.uid, owner: owner))
        } catch {
            await OwnThread.answer {
                try? VolumeFile.giveBack(place, from: user.uid, to: owner)
                try? partial.remove()
            }
            throw error
        }
    }

    private func needsImage(_ content: DiskCopy.Content, _ order: VMOrder, _ written: WrittenRoot) throws -> Bool {
        if content == .blank { return true }
        if order.annotations.overwritesPersistentRoot, !written.isNoted { return true }
        guard content == .bootable else {
            throw SwiftletError(
                .failedPrecondition,
                "the volume holds something that is no disk to boot from, and is not written over; with the annotation "
                    + "swiftlet/persistent-root-overwrite: \"true\" it is")
        }
        return false
    }

    private func copy(_ order: VMOrder, to disk: String, _ key: RootDiskKey, _ user: MachineUser) async throws {
        logger.notice(
            "image is written to a root disk",
            metadata: ["pod": "\(context.id)", "disk": "\(key)", "image": "\(order.image.digest)"])
        let head = order.names.copyHead(key)
        let cgroup = try context.ledger.entry(.cgroup)?.decoded(ProcessCgroup.self)
        try await handler.roots.writers.withPermit {
            try await Failpoint.pass(
                "copy the root disk",
                around: {
                    try await DiskCopy(cgroup: cgroup).write(order.imageDisk, to: disk, head: head, user: user)
                })
        }
    }

    /// Whom images are copied as: the pod's own user beside its machines', who ends when it does. Makes the control group in which they are.
    private func copier() async throws -> MachineUser {
        if let user = copyUser.withLock({ $0 }) { return user }
        let user = MachineUser(uid: try await machines.users.acquire(context.ledger), gid: handler.configuration.group)
        try await PodCgroup.acquire(
            "\(context.id)-copy", below: context.spec.cgroupParent, PodCgroup.limits(context.spec.demand), context.ledger)
        // After the user and the group, which are released when the copies have ended.
        try await context.ledger.acquire(.rootCopy, "user \(user.uid)") {}
        copyUser.withLock { $0 = user }
        return user
    }

    // MARK: The machine's files

    /// Gives the machine's user what a volume lends it, until the machine has ended.
    func lendFiles(to id: String, _ user: MachineUser, _ ledger: Ledger) async throws {
        guard let lent = entries.withLock({ $0[id]?.record.lentFiles }), !lent.isEmpty else { return }
        var files: [(file: VolumeFile, lent: VMRecord.LentFile)] = []
        for entry in lent {
            let file = try await OwnThread.run { try VolumeFile(entry.name, in: try HostPath(entry.volume)) }
            let owner = try await OwnThread.run {
                if entry.name == PersistentRoot.variablesName { try file.makeVariables(UEFIFirmware()) }
                if entry.name == PersistentRoot.tpmName { try file.makeTPMState() }
                if let bytes = entry.bytes { try file.grow(to: bytes) }
                guard let owner = try file.ownership() else { throw SwiftletError(.notFound, "\(file.path) is not there") }
                return owner
            }
            // A node that lost power gave nothing back.
            var owned = entry
            owned.owner = machines.users.isPods(owner.uid) ? file.expectedOwnership : owner
            files.append((file, owned))
        }
        let noted = files.map(\.lent)
        try await change(id) { $0.lentFiles = noted }
        for (file, lent) in files {
            try await ledger.acquire(.volumeFile, lent.place, LentFileDocument(user: user.uid, owner: lent.owner)) {
                try await OwnThread.run { try file.lend(at: lent.place, to: user.uid, user.gid) }
            }
        }
    }

    /// Idempotent. Not left to the container's removal: a volume is taken from the node as soon as its pod has ended.
    func giveFilesBack(_ record: VMRecord) async throws {
        let lent = (record.lentFiles ?? []).filter { $0.owner != nil }
        guard !lent.isEmpty else { return }
        let user = record.machine.user?.uid
        try await OwnThread.run {
            for file in lent { try VolumeFile.giveBack(file.place, from: user, to: file.owner) }
        }
    }
}

extension VolumeFile {
    /// UEFI's variables, where there are none. Ones that are there stay as they are, and whose they are. Blocks.
    ///
    /// - Throws: `failedPrecondition` for a file of another size, and for what is no file of the volume's alone.
    func makeVariables(_ firmware: UEFIFirmware) throws {
        let fresh = try firmware.freshVariables()
        guard let bytes = try size() else { return try create(fresh, beside(name + ".swiftlet"), expectedOwnership) }
        guard bytes == fresh.count else {
            throw SwiftletError(
                .failedPrecondition, "\(path) is not a file of \(fresh.count) bytes: no UEFI variables of this firmware")
        }
    }
}

extension VolumeFile {
    /// swtpm's state is some kilobytes; it maps all of the file.
    private static let mostTPMState = 4 << 20

    /// A TPM's state, empty where there is none. One that is there stays as it is. Blocks.
    ///
    /// - Throws: `failedPrecondition` for a file that is too large, and for what is no file of the volume's alone.
    func makeTPMState() throws {
        guard let bytes = try size() else { return try create([], beside(name + ".swiftlet"), expectedOwnership) }
        guard bytes <= Self.mostTPMState else {
            throw SwiftletError(.failedPrecondition, "\(path) has \(bytes) bytes: no TPM's state")
        }
    }
}

/// That a pod's root disk has got its image: it is written over once at most for a pod and an image.
private struct WrittenRoot: Sendable {
    let path: String
    let text: String

    init(_ order: VMOrder, _ disk: RootDiskKey) {
        path = order.names.copyNote(disk)
        text = "\(disk.name) \(order.image.digest)\n"
    }

    var isNoted: Bool { KernelFile.text(path, limit: 4096) == text }

    func note() throws {
        do {
            try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
        } catch {
            throw SwiftletError(.internal, "write \(path)", cause: error)
        }
    }
}

extension PersistentRoot: CustomStringConvertible {
    var description: String {
        switch self {
        case .device(let device): "\(device.hostPath) (config.devices, at /)"
        case .file(let mount): "\(mount.hostPath)/\(Self.fileName) (\(Self.annotation))"
        }
    }
}
