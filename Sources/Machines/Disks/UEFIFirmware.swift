import Concurrency
import Errors
import Glibc
import Linux

/// UEFI without Secure Boot: Debian's OVMF, and each machine's own copy of its variables.
public struct UEFIFirmware: Sendable, Equatable {
    /// Shared by all machines.
    public var code: String
    /// What a machine's variables are before its first boot.
    public var template: String

    /// With less RAM, OVMF ends in an exception at 32 MiB, and what it boots finds no memory to allocate at 48.
    public static let leastMemory: UInt64 = 64 << 20

    /// OVMF's variables are 528 KiB; nobody's are more than this.
    static let mostBytes = 4 << 20

    public init(code: String = "/usr/share/OVMF/OVMF_CODE_4M.fd", template: String = "/usr/share/OVMF/OVMF_VARS_4M.fd") {
        self.code = code
        self.template = template
    }

    /// Why machines of this node cannot boot by UEFI; nil when they can. Blocks for a moment.
    public func obstacle() -> String? {
        for path in [code, template] where access(path, R_OK) != 0 {
            return "UEFI needs \(path), which cannot be read (package ovmf): \(SystemError(errno))"
        }
        return nil
    }

    /// Makes a machine's variables (NVRAM), for `MachineBoot.firmware`. Nothing is left of a copy that fails.
    ///
    /// - Parameters:
    ///   - keep: those that are there already, of a machine that boots again from its own disk. Ones of another size are refused.
    ///   - owner: of the file, which nobody else can read (0600).
    /// - Throws: `failedPrecondition` without the firmware, or for a kept file that is none of it; `resourceExhausted` on a full disk.
    public func makeVariables(_ path: String, keep: Bool, owner: MachineUser) async throws {
        try MachineSpec.checkPath(path)
        try await OwnThread.run {
            let fresh = try freshVariables()
            if keep, try Self.isKept(path, size: fresh.count, owner) { return }
            let partial = path + ".new"
            do {
                try Self.write(fresh, to: partial, owner)
                guard rename(partial, path) == 0 else { throw SwiftletError.system("rename \(partial)") }
            } catch {
                unlink(partial)
                throw error
            }
        }
    }

    /// What a machine's variables are before its first boot. Blocks.
    ///
    /// - Throws: `failedPrecondition` without the firmware.
    public func freshVariables() throws -> [UInt8] {
        if let obstacle = obstacle() { throw SwiftletError(.failedPrecondition, obstacle) }
        guard let fresh = KernelFile.bytes(template, limit: Self.mostBytes + 1), fresh.count <= Self.mostBytes else {
            throw SwiftletError(
                .failedPrecondition, "UEFI variables \(template) cannot be read, or are more than \(Self.mostBytes) bytes")
        }
        return fresh
    }

    /// Whether the variables are there; they become the owner's.
    private static func isKept(_ path: String, size: Int, _ owner: MachineUser) throws -> Bool {
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard file >= 0 else {
            guard errno == ENOENT else { throw SwiftletError.system("UEFI variables \(path)") }
            return false
        }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0 else { throw SwiftletError.system("UEFI variables \(path)") }
        guard status.st_mode & S_IFMT == S_IFREG, status.st_size == off_t(size) else {
            throw SwiftletError(.failedPrecondition, "\(path) is not a file of \(size) bytes: no UEFI variables of this firmware")
        }
        guard fchown(file, owner.uid, owner.gid) == 0, fchmod(file, 0o600) == 0 else { throw SwiftletError.system("prepare \(path)") }
        return true
    }

    private static func write(_ bytes: [UInt8], to path: String, _ owner: MachineUser) throws {
        guard unlink(path) == 0 || errno == ENOENT else { throw SwiftletError.system("remove \(path)") }
        let file = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard file >= 0 else { throw SwiftletError.system("create \(path)") }
        defer { close(file) }
        guard Glibc.write(file, bytes, bytes.count) == bytes.count else { throw SwiftletError.system("write \(path)") }
        guard fchown(file, owner.uid, owner.gid) == 0 else { throw SwiftletError.system("chown \(path)") }
    }
}
