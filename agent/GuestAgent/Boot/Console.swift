import Glibc

/// The guest's console. Characters are slow on an emulated serial line, so only failures are written unless the kernel's
/// command line holds `swiftlet.debug`.
struct Console: Sendable {
    private let isDebugging: Bool

    init() {
        let words = (Files.text("/proc/cmdline") ?? "").split(separator: " ")
        isDebugging = words.contains("swiftlet.debug")
    }

    func debug(_ message: @autoclosure () -> String) {
        if isDebugging { write(message()) }
    }

    func write(_ message: String) {
        let bytes = Array("swiftlet-agent: \(message)\n".utf8)
        _ = Glibc.write(STDERR_FILENO, bytes, bytes.count)
    }
}
