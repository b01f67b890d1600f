import Errors
import FoundationEssentials
import Glibc
import Linux
import Logging

/// Finds out whether this node runs guests by KVM.
///
/// That /dev/kvm opens proves little: nested and paravirtual KVMs open and then hang or kill a stock kernel. So a tiny
/// guest with the pods' own kernel must reach user space, once per boot of the host.
public struct AcceleratorProbe: Sendable {
    /// What the administrator asks for.
    public enum Choice: String, Sendable, Codable, CaseIterable {
        case auto
        case kvm
        case tcg
    }

    public var choice: Choice
    /// The pods' kernel.
    public var kernel: String
    /// Keeps the verdict, so that a restarted daemon need not ask again.
    public var cacheFile: String
    public var emulator: String
    public var device: String
    /// How long the probe guest may take. With KVM it takes well under a second.
    public var deadline: Duration

    public init(
        choice: Choice = .auto, kernel: String, cacheFile: String, emulator: String = "/usr/bin/qemu-system-x86_64",
        device: String = "/dev/kvm", deadline: Duration = .seconds(5)
    ) {
        self.choice = choice
        self.kernel = kernel
        self.cacheFile = cacheFile
        self.emulator = emulator
        self.device = device
        self.deadline = deadline
    }

    /// The accelerator for this node's machines. Never fails: what cannot be proved is emulated.
    public func verdict(logger: Logger = Logger(label: "accelerator")) async -> Accelerator {
        switch choice {
        case .kvm: return .kvm
        case .tcg: return .tcg
        case .auto: break
        }
        let descriptor = open(device, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else {
            logger.info("no KVM: machines are emulated", metadata: ["device": "\(device)", "reason": "\(SystemError(errno))"])
            return .tcg
        }
        close(descriptor)
        let key = await fingerprint()
        if let known = cached(key) { return known }
        let failure = await whyItDoesNotRun(.kvm)
        let verdict: Accelerator = failure == nil ? .kvm : .tcg
        logger.info("probed KVM", metadata: ["verdict": "\(verdict)", "reason": "\(failure ?? "the probe guest ran")"])
        remember(verdict, key, logger)
        return verdict
    }

    /// Boots the probe guest; nil when it came through.
    func whyItDoesNotRun(_ accelerator: Accelerator) async -> String? {
        let directory = cacheFile + ".probe-\(getpid())"
        let initramfs = directory + "/initramfs"
        defer {
            unlink(initramfs)
            rmdir(directory)
        }
        guard mkdir(directory, 0o700) == 0, Self.write(ProbeGuest.initramfs, to: initramfs) else {
            return "\(directory): \(SystemError(errno))"
        }
        let probe = Spawn(
            emulator,
            [
                "-machine", "q35", "-accel", accelerator.rawValue, "-cpu", "max", "-m", "256", "-nodefaults", "-no-user-config",
                "-display", "none", "-no-reboot", "-kernel", kernel, "-initrd", initramfs,
                "-append",
                (["console=ttyS0", "quiet", "loglevel=1"] + GuestKernelArguments.end + GuestKernelArguments.startup)
                    .joined(separator: " "),
                "-serial", "stdio", "-device", "isa-debug-exit,iobase=\(ProbeGuest.exitPort),iosize=4",
            ],
            deadline: deadline, outputLimit: 64 << 10)
        do {
            let result = try await probe.run()
            if result.status == ProbeGuest.provenStatus || result.outputText.contains(ProbeGuest.provenText) { return nil }
            return "the probe guest ended with status \(result.status): \(result.errorText.prefix(512))"
        } catch {
            return "\(error)"
        }
    }

    /// What the verdict depends on: the host's kernel and boot, QEMU, and the pods' kernel.
    private func fingerprint() async -> String {
        let version = try? await Spawn(emulator, ["--version"], deadline: .seconds(5)).run().outputText.split(separator: "\n").first
        let boot = Self.text("/proc/sys/kernel/random/boot_id")
        let release = Self.text("/proc/sys/kernel/osrelease")
        var information = stat()
        let found = stat(kernel, &information) == 0
        let file = found ? "\(information.st_size).\(information.st_mtim.tv_sec)" : "none"
        return [release, boot, version.map(String.init) ?? "unknown", "\(kernel).\(file)"].joined(separator: "|")
    }

    private func cached(_ key: String) -> Accelerator? {
        let lines = Self.text(cacheFile).split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.count == 2, lines[0] == key else { return nil }
        return Accelerator(rawValue: String(lines[1]))
    }

    /// A verdict that cannot be written is asked for again.
    private func remember(_ verdict: Accelerator, _ key: String, _ logger: Logger) {
        let temporary = cacheFile + ".new"
        guard Self.write(Array("\(key)\n\(verdict.rawValue)".utf8), to: temporary), rename(temporary, cacheFile) == 0 else {
            logger.warning("cannot keep the verdict on KVM", metadata: ["file": "\(cacheFile)", "reason": "\(SystemError(errno))"])
            return
        }
    }

    private static func text(_ path: String) -> String {
        let text = KernelFile.text(path, limit: 4096) ?? ""
        return text.last == "\n" ? String(text.dropLast()) : text
    }

    private static func write(_ bytes: [UInt8], to path: String) -> Bool {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return Glibc.write(descriptor, bytes, bytes.count) == bytes.count
    }
}
