import Glibc
import Linux

/// The guest's console. Characters are slow on an emulated serial line, so only failures are written unless the kernel's
/// command line holds `swiftlet.debug`.
struct Console: Sendable {
    private let isDebugging: Bool

    init() {
        // Bytes, not text: the first use of Swift's Unicode code costs an emulated guest 20 ms.
        let line = KernelFile.bytes("/proc/cmdline", limit: 4096) ?? []
        let word = Array("swiftlet.debug".utf8)
        isDebugging = line.split { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\n") }.contains { $0.elementsEqual(word) }
    }

    func debug(_ message: @autoclosure () -> String) {
        if isDebugging { write(message()) }
    }

    func write(_ message: String) {
        let bytes = Array("swiftlet-agent: \(message)\n".utf8)
        _ = Glibc.write(STDERR_FILENO, bytes, bytes.count)
    }
}
