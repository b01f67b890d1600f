import Concurrency
import Errors
import Glibc
import Linux

/// A qcow2 file that holds what one machine writes, on top of an image that many machines read; or on top of nothing.
///
/// qemu-img makes it as the machine's user, without capabilities, under limits, and opens no other file: the image below it is a
/// stranger's.
public struct OverlayDisk: Sendable {
    /// What the disk lies on. Its format and size are known from a check of the image, and never probed.
    public struct Base: Sendable, Equatable {
        public var file: DiskSpec.Backing
        /// Bytes that a guest sees.
        public var virtualSize: UInt64

        public init(file: DiskSpec.Backing, virtualSize: UInt64) {
            self.file = file
            self.virtualSize = virtualSize
        }
    }

    /// QEMU's largest disk is 2^63 bytes; with tables of a sensible size it ends far earlier.
    static let largest: UInt64 = 64 << 40

    public var program: String
    /// For one run of qemu-img, which takes some 20 ms.
    public var deadline: Duration

    public init(program: String = "/usr/bin/qemu-img", deadline: Duration = .seconds(20)) {
        self.program = program
        self.deadline = deadline
    }

    /// Makes a disk; a file that is there is replaced. Nothing is left of one that fails.
    ///
    /// - Parameters:
    ///   - path: in a directory that the owner can pass through.
    ///   - size: bytes that the guest sees, rounded up to whole sectors; nil: the base's.
    ///   - owner: of the file, which nobody else can read (0600).
    /// - Throws: `invalidArgument` for a size below the base's, or none at all; `notFound` without the base; `resourceExhausted` on a full
    ///   disk; `deadlineExceeded`.
    public func create(_ path: String, on base: Base?, size: UInt64? = nil, owner: MachineUser) async throws {
        try MachineSpec.checkPath(path)
        let bytes = try Self.size(size, on: base, path)
        if let base {
            try MachineSpec.checkPath(base.file.path)
            guard access(base.file.path, F_OK) == 0 else {
                throw SwiftletError(
                    errno == ENOENT ? .notFound : .internal, "disk \(path): its image \(base.file.path): \(SystemError(errno))")
            }
        }
        // -u: the base is not opened, so that a size has to be given.
        let below = base.map { ["-u", "-F", $0.file.format.rawValue, "-b", $0.file.path] } ?? []
        do {
            try await OwnThread.run { try Self.makeFile(path, owner) }
            try await run(["create", "-q", "-f", "qcow2"] + below + ["--", path, "\(bytes)"], as: owner, step: "make disk \(path)")
        } catch {
            unlink(path)
            throw error
        }
    }

    /// Gives the disk of a machine that does not run more bytes; never fewer. A machine that runs does it by
    /// `Hypervisor.resizeDisk`.
    ///
    /// - Throws: `invalidArgument` for a size below the disk's, with both.
    public func grow(_ path: String, format: DiskSpec.Format, to size: UInt64, owner: MachineUser) async throws {
        try MachineSpec.checkPath(path)
        let bytes = try Self.size(size, on: nil, path)
        let file = format == .qcow2 ? Self.qcow2WithoutBase(path) : Self.node(path, format, "")
        let step = "grow disk \(path)"
        let information = try await run(["info", "--output=json", "-U", "--", file], as: owner, step: step)
        guard let size = Self.virtualSize(information.outputText) else {
            throw SwiftletError(.internal, "\(step): qemu-img tells no size: \(information.outputText.prefix(256))")
        }
        guard bytes >= size else {
            throw SwiftletError(.invalidArgument, "\(step): \(bytes) bytes are less than the \(size) that it has")
        }
        if bytes > size { try await run(["resize", "-q", "--", file, "\(bytes)"], as: owner, step: step) }
    }

    // MARK: Steps

    /// The bytes of a disk that is asked for.
    static func size(_ wanted: UInt64?, on base: Base?, _ path: String) throws -> UInt64 {
        guard let wanted = wanted ?? base?.virtualSize, wanted > 0 else {
            throw SwiftletError(.invalidArgument, "disk \(path): no size is given")
        }
        if let base, wanted < base.virtualSize {
            throw SwiftletError(
                .invalidArgument, "disk \(path): a size of \(wanted) bytes is less than the \(base.virtualSize) bytes of its image")
        }
        guard wanted <= largest else {
            throw SwiftletError(.invalidArgument, "disk \(path): a size of \(wanted) bytes is more than \(largest)")
        }
        return (wanted + 511) / 512 * 512
    }

    /// An empty file of QEMU's user. The directory need not be writable for it.
    private static func makeFile(_ path: String, _ owner: MachineUser) throws {
        guard unlink(path) == 0 || errno == ENOENT else { throw SwiftletError.system("remove \(path)") }
        let file = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard file >= 0 else { throw SwiftletError.system("create \(path)") }
        defer { close(file) }
        guard fchown(file, owner.uid, owner.gid) == 0 else { throw SwiftletError.system("chown \(path)") }
    }

    @discardableResult
    private func run(_ arguments: [String], as user: MachineUser, step: String) async throws -> Spawn.Result {
        let result = try await UnprivilegedProgram(path: program, user: user, deadline: deadline).spawn(arguments).run()
        guard result.succeeded else {
            let said = result.errorText.prefix(1024)
            throw SwiftletError(
                said.contains("No space left") ? .resourceExhausted : .internal,
                "\(step): qemu-img ended with status \(result.status): \(said.debugDescription)")
        }
        return result
    }

    /// A qcow2 file as qemu-img takes it: whatever its header says it lies on stays closed.
    static func qcow2WithoutBase(_ path: String) -> String { node(path, .qcow2, #","backing":null"#) }

    private static func node(_ path: String, _ format: DiskSpec.Format, _ more: String) -> String {
        #"json:{"driver":"\#(format)","file":{"driver":"file","filename":"\#(escaped(path))"}\#(more)}"#
    }

    /// A path in a JSON string; it holds no control characters.
    static func escaped(_ path: String) -> String {
        path.replacing("\\", with: #"\\"#).replacing("\"", with: #"\""#)
    }

    /// The number behind "virtual-size" in qemu-img's JSON.
    static func virtualSize(_ information: String) -> UInt64? {
        guard let key = information.firstRange(of: #""virtual-size": "#) else { return nil }
        return UInt64(information[key.upperBound...].prefix { $0.isNumber })
    }
}
