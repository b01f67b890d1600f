import CRIServer
import Concurrency
import Errors
import Foundation
import GRPC
import Glibc
import Linux
import Logging
import Machines
import MicroVMRuntime
import NativeVMRuntime
import PodNetwork
import Pods
import Runtime

extension Configuration.Machine {
    /// Which libvirt to use. With "auto" the answer may change from call to call: the daemon asks once.
    func libvirtConnection(root: String) -> LibvirtConfiguration.Connection {
        let embeddedRoot = root + "/libvirt"
        return switch libvirt {
        case "auto": .automatic(embeddedRoot: embeddedRoot)
        case "system": .system
        case "embed": .embed(root: embeddedRoot)
        default: .custom(libvirt)
        }
    }

    /// The disk that the initramfs makes the guest's root; nil where nothing names one.
    var agentImage: String? { agent.isEmpty ? Self.sibling("agent.erofs", of: initramfs) : agent }

    /// The file of the kernel's modules on demand; nil where nothing names one.
    var modulesImage: String? { modules.isEmpty ? Self.sibling("modules.erofs", of: kernel) : modules }

    /// The disk with the agent for VM pods; nil where nothing names one.
    var toolsImage: String? { tools.isEmpty ? Self.sibling("tools.iso", of: kernel) : tools }

    private static func sibling(_ name: String, of file: String) -> String? {
        let beside = URL(fileURLWithPath: file).deletingLastPathComponent().appendingPathComponent(name).path
        return FileManager.default.fileExists(atPath: beside) ? beside : nil
    }
}

extension Configuration {
    var paths: NodePaths {
        NodePaths(kernel: machine.kernel, initramfs: machine.initramfs, root: root, run: run)
    }

    var cni: CNIConfiguration {
        var cni = CNIConfiguration(
            configDirectory: network.configDirectory, template: network.template.isEmpty ? nil : network.template,
            pluginDirectories: network.pluginDirectories, cacheDirectory: root + "/cni",
            namespaceDirectory: run + "/pods")
        cni.allowsSpoofing = network.allowsSpoofing
        cni.collectsGarbage = network.collectsGarbage
        return cni
    }

    /// All of it in JSON, for verbose Status.
    var json: String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return (try? encoder.encode(self)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
    }

    /// - Throws: `.invalidArgument` when the driver is not known.
    /// - Throws: `.invalidArgument` for what is no endpoint, and for TCP where it is not allowed.
    func checkedEndpoint() throws -> Endpoint {
        let endpoint = try Endpoint(parsing: endpoint)
        if case .tcp = endpoint, !allowsTCPEndpoint {
            throw SwiftletError(
                .invalidArgument,
                "endpoint \(endpoint): whoever reaches it has the node, since the CRI knows no authentication; use unix:///path/to.sock, or "
                    + "set allow_tcp_endpoint = true")
        }
        return endpoint
    }

    func checkedCgroupDriver() throws -> CgroupDriver {
        if cgroupDriver == "auto" { return .detect() }
        guard let driver = CgroupDriver(rawValue: cgroupDriver) else {
            throw SwiftletError(.invalidArgument, "cgroup_driver \(cgroupDriver) is not auto, cgroupfs or systemd")
        }
        return driver
    }

    /// - Throws: `.invalidArgument` naming the key whose value is not known.
    func microVM(logger: Logger) async throws -> MicroVMConfiguration {
        var result = MicroVMConfiguration(
            kernel: machine.kernel, initramfs: machine.initramfs, runDirectory: run + "/pods", stateDirectory: root + "/pods",
            vsockBackend: machine.vsockBackend.isEmpty ? Self.besideDaemon("swiftlet-vsockd") : machine.vsockBackend,
            accelerator: try await accelerator(logger), vsock: try vsock(), users: try podUsers(),
            sharedUser: try MachineUser.shared())
        guard machine.defaultMemory >= 128, machine.defaultMemory <= 1 << 20 else {
            throw SwiftletError(.invalidArgument, "machine.default_memory_mib \(machine.defaultMemory) is not from 128 to 1048576")
        }
        guard machine.scratchSize >= 1, machine.scratchSize <= 16384 else {
            throw SwiftletError(.invalidArgument, "machine.scratch_size_gib \(machine.scratchSize) is not from 1 to 16384")
        }
        guard machine.maxScratchSize >= 0, machine.maxScratchSize <= 16384 else {
            throw SwiftletError(.invalidArgument, "machine.max_scratch_size_gib \(machine.maxScratchSize) is not from 0 to 16384")
        }
        guard machine.bootTimeout >= 1, machine.defaultCPUs >= 1 else {
            throw SwiftletError(.invalidArgument, "machine.boot_timeout_seconds and machine.default_cpus must be positive")
        }
        result.agent = machine.agentImage
        result.modules = machine.modulesImage
        result.extraKernelArguments = machine.kernelArguments
        if result.accelerator == .tcg { result.timeStampCounterKHz = await OwnThread.answer { TimeStampCounter.measureRate() } }
        result.defaultMemory = UInt64(machine.defaultMemory) << 20
        result.defaultCPUs = machine.defaultCPUs
        result.scratchSize = UInt64(machine.scratchSize) << 30
        result.mostScratchSize = UInt64(machine.maxScratchSize) << 30
        result.bootTimeout = .seconds(machine.bootTimeout)
        result.pool = try checkedPool(of: result)
        return result
    }

    /// Of machines that boot from disk images. What is the node's is as with all machines.
    func nativeVM(_ microVM: MicroVMConfiguration) -> NativeVMConfiguration {
        var result = NativeVMConfiguration(
            runDirectory: run + "/vms", stateDirectory: root + "/vms", accelerator: microVM.accelerator, vsock: microVM.vsockDevices,
            group: microVM.sharedUser.gid)
        result.tools = machine.toolsImage
        result.defaultMemory = microVM.defaultMemory
        result.defaultCPUs = microVM.defaultCPUs
        result.rawDevices = vm.rawDevices
        result.virglProbe = Self.besideDaemon("swiftlet-virgl-probe")
        return result
    }

    /// Whom pods' machines run as.
    ///
    /// - Throws: `.invalidArgument` for a range that cannot be, `.failedPrecondition` for one that is somebody's.
    func podUsers() throws -> UserRange {
        do {
            let range = try UserRange(first: machine.firstPodUID, count: machine.podUIDs)
            try range.check()
            return range
        } catch {
            throw SwiftletError.wrap(error, "machine.pod_uid_first and machine.pod_uid_count")
        }
    }

    private func accelerator(_ logger: Logger) async throws -> Accelerator {
        guard let choice = AcceleratorProbe.Choice(rawValue: machine.accelerator) else {
            throw SwiftletError(.invalidArgument, "machine.accelerator \(machine.accelerator) is not auto, kvm or tcg")
        }
        return await AcceleratorProbe(choice: choice, kernel: machine.kernel, cacheFile: root + "/accelerator.json")
            .verdict(logger: logger)
    }

    private func vsock() throws -> VsockSupport {
        switch machine.vsock {
        case "vhost-user": .vhostUser
        case "kernel" where VsockSupport.kernelAnswers(): .kernel
        case "kernel": throw SwiftletError(.failedPrecondition, "machine.vsock kernel: /dev/vhost-vsock does not answer; load vhost_vsock")
        default: throw SwiftletError(.invalidArgument, "machine.vsock \(quoted(machine.vsock)) is not vhost-user or kernel")
        }
    }

    static func besideDaemon(_ name: String) -> String {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? "/usr/sbin/swiftletd"
        return URL(fileURLWithPath: own).deletingLastPathComponent().appendingPathComponent(name).path
    }
}
