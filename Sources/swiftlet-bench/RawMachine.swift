import AgentClient
import AgentProtocol
import Concurrency
import Errors
import Foundation
import Glibc
import Linux
import Machines
import Runtime

/// What all machines of the benchmark have in common.
struct MachineShape: Sendable {
    var accelerator: Accelerator
    /// MiB of RAM.
    var memory = 256
}

/// A pod's machine without the pod: QEMU started directly, with the devices that libvirt would give it.
struct RawMachine: Sendable {
    let workspace: Workspace
    let vsockBackend: VsockBackend
    let guest: GuestFiles
    let machine: MachineShape

    private var directory: String { workspace.run + "/qemu" }
    private var vhostSocket: String { directory + "/vhost" }
    private var hostSocket: String { directory + "/vsock" }
    private var console: String { directory + "/console.log" }
    private var disk: String { workspace.root + "/qemu.img" }

    private static let limit = Duration.seconds(120)

    /// Boots a machine, waits for its agent's first answer, and ends it.
    ///
    /// - Parameter number: makes the tap's name, which the last machine may still hold for a moment.
    /// - Returns: the time from the start of the QEMU process to the answer, and the agent's part in it.
    func boot(number: Int) async throws -> [(Operation, Duration)] {
        try await run(number: number, initramfs: guest.initramfs) { start, address in
            let info = try await AgentClient.connect(to: address, deadline: .now + Self.limit).info
            return [
                (.boot, ContinuousClock.now - start),
                (.listening, .nanoseconds(Int64(clamping: info.listeningSinceBootNs) - Int64(clamping: info.startedSinceBootNs))),
            ]
        }
    }

    /// Boots a machine, works with its guest, and ends it.
    ///
    /// - Parameter body: gets the start of the QEMU process and the guest's address. It may take two minutes.
    func run<Value: Sendable>(
        number: Int, initramfs: String, _ body: @escaping @Sendable (ContinuousClock.Instant, VsockAddress) async throws -> Value
    ) async throws -> Value {
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try makeDisk()
        let backend = try await vsockBackend.start(
            vhostSocket: vhostSocket, hostSocket: hostSocket, cid: 3, log: directory + "/vsockd.log",
            // As QEMU, which is started below.
            user: MachineUser(uid: getuid(), gid: getgid()))
        let result: Result<Value, any Error>
        do {
            result = .success(try await bootAndEnd(arguments(tap: "sw-raw-\(number)", initramfs: initramfs), body))
        } catch {
            result = .failure(error)
        }
        try await vsockBackend.stop(hostSocket: hostSocket, process: backend)
        return try result.get()
    }

    private func bootAndEnd<Value: Sendable>(
        _ arguments: [String], _ body: @escaping @Sendable (ContinuousClock.Instant, VsockAddress) async throws -> Value
    ) async throws -> Value {
        let start = ContinuousClock.now
        let process = try BenchProcess("/usr/bin/qemu-system-x86_64", arguments, log: directory + "/qemu.log")
        let (identity, address) = (process.identity, VsockAddress.unixProxy(path: hostSocket))
        do {
            return try await withThrowingTaskGroup(of: Value?.self) { group in
                group.addTask { try await body(start, address) }
                group.addTask {
                    try await OwnThread.run { _ = identity.waitForExit(Self.limit) }
                    return nil
                }
                // The second task ends with the process.
                defer { identity.kill() }
                guard let value = try await group.next() ?? nil else { throw SwiftletError(.unavailable, "QEMU ended") }
                return value
            }
        } catch {
            let said = (try? String(contentsOfFile: console, encoding: .utf8)) ?? ""
            throw SwiftletError.wrap(error, "boot raw QEMU (it said: \(process.said); console: \(said.suffix(1000)))")
        }
    }

    /// Sparse, as large as a pod's scratch disk.
    private func makeDisk() throws {
        guard FileManager.default.createFile(atPath: disk, contents: nil), truncate(disk, 10 << 30) == 0 else {
            throw SwiftletError(.internal, "making \(disk): \(String(cString: strerror(errno)))")
        }
    }

    private func arguments(tap: String, initramfs: String) -> [String] {
        let ports = (1...10).flatMap { ["-device", "pcie-root-port,id=pci.\($0),bus=pcie.0,port=\($0),chassis=\($0)"] }
        let devices = [
            "virtio-scsi-pci,id=scsi0,bus=pci.1", "scsi-hd,bus=scsi0.0,lun=0,drive=agent0,serial=agent",
            "scsi-hd,bus=scsi0.0,lun=1,drive=disk0,serial=scratch",
            "virtio-net-pci,netdev=net0,bus=pci.2,romfile=", "virtio-rng-pci,rng=rng0,bus=pci.3",
            "virtio-balloon-pci,bus=pci.4,deflate-on-oom=on,free-page-reporting=on",
            #"{"driver":"vhost-user-vsock-pci","chardev":"vu0","id":"uvsock0","bus":"pci.5"}"#,
        ].flatMap { ["-device", $0] }
        return ["-machine", "q35,usb=off,hpet=off,dump-guest-core=off,memory-backend=ram"] + machine.accelerator.processorArguments
            + [
                "-m", "\(machine.memory)", "-object", "memory-backend-memfd,id=ram,share=on,size=\(machine.memory)M", "-smp", "1",
                "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-rtc", "base=utc",
                "-kernel", guest.kernel, "-initrd", initramfs,
                "-append",
                (GuestKernelArguments.standard + (machine.accelerator == .tcg ? GuestKernelArguments.emulated : []))
                    .joined(separator: " "),
                "-serial", "file:\(console)",
                "-drive", "file=\(guest.agent),format=raw,if=none,id=agent0,readonly=on",
                "-drive", "file=\(disk),format=raw,if=none,id=disk0,cache=unsafe,discard=unmap",
                "-netdev", "tap,id=net0,ifname=\(tap),script=no,downscript=no",
                "-object", "rng-random,id=rng0,filename=/dev/urandom",
                "-chardev", "socket,id=vu0,path=\(vhostSocket)",
            ] + ports + devices
    }
}
