import Errors
import Glibc

/// The kernel's request for a module. The kernel starts a program for each (kernel/module/kmod.c, `call_modprobe`): "modprobe -q --
/// NAME", with every right and without descriptors. The agent's own file is that program.
///
/// The name is a container's choice in part. It chooses among the aliases of the disk with the modules on demand, which is the host's.
enum ModuleRequest {
    /// Where the disk is mounted.
    static let directory = "/run/swiftlet/modules"

    /// What the kernel starts; containers read it in their /proc/sys/kernel/modprobe, and may try a file of their own by this name.
    static let program = "/sbin/modprobe"

    private static let setting = "/proc/sys/kernel/modprobe"

    /// Whether these are the arguments of the kernel's request; the last one is the name then.
    static func isAsked(by arguments: [String]) -> Bool { arguments.count == 4 && arguments[1] == "-q" && arguments[2] == "--" }

    /// Has the kernel start the agent for a request.
    static func allow() throws(SwiftletError) {
        try Files.makeDirectory("/sbin")
        // The disk from which the agent comes is out of reach by any other path.
        guard symlink("/proc/1/exe", program) == 0 || errno == EEXIST else { throw .system("making \(program)") }
        try Files.write(program, to: setting)
    }

    /// Has the kernel start nothing: it refuses at once what would need a module.
    static func forbid() throws(SwiftletError) {
        // The kernel takes what is before the end of the line; nothing at all would be no write.
        try Files.write("\n", to: setting)
    }

    /// Loads what the name stands for, with what that needs.
    ///
    /// - Returns: the exit code.
    static func serve(_ name: String) -> Int32 {
        // What is written comes where the agent's own messages are.
        for _ in STDIN_FILENO...STDERR_FILENO { _ = open("/dev/console", O_RDWR | O_NOCTTY) }
        guard let alias = alias(name) else { return 1 }
        return KernelModules(directory: directory).load(list: "aliases/\(alias)", Console()) ? 0 : 1
    }

    /// The name as the disk has it; nil for one that could be no file of one directory.
    static func alias(_ name: String) -> String? {
        // Bytes, not text: the first use of Swift's Unicode code costs an emulated guest 20 ms.
        var bytes = Array(name.utf8)
        guard !bytes.isEmpty, bytes.count < 256, bytes[0] != UInt8(ascii: "."), !bytes.contains(UInt8(ascii: "/")) else { return nil }
        for index in bytes.indices where bytes[index] == UInt8(ascii: "-") { bytes[index] = UInt8(ascii: "_") }
        return String(decoding: bytes, as: UTF8.self)
    }
}
