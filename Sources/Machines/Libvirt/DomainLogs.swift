import Concurrency
import Errors
import Glibc
import Linux
import Logging

/// Keeps libvirt's logs of machines small: QEMU writes its standard error there, and a guest can make it say something again and again.
///
/// With `stdio_handler = "file"`, as the embedded driver has it, nobody bounds them. They are opened to append, so that they can be cut
/// while the machine runs. virtlogd, which libvirtd uses by default, keeps them below 2 MiB.
final class DomainLogs: Sendable {
    /// Swiftlet's machines at a libvirtd that has others', too.
    static let prefix = "swiftlet-"

    let directory: String
    private let work: Task<Void, Never>

    /// - Parameters:
    ///   - prefix: of the names of the machines whose logs they are.
    ///   - interval: from one look at the logs to the next.
    init(_ directory: String, prefix: String, interval: Duration = .seconds(5), logger: Logger) {
        self.directory = directory
        work = Task {
            while !Task.isCancelled {
                do { try await Task.sleep(for: interval) } catch { return }
                await OwnThread.answer { Self.bound(directory, prefix: prefix, logger) }
            }
        }
    }

    deinit { work.cancel() }

    private static func bound(_ directory: String, prefix: String, _ logger: Logger) {
        for name in (try? KernelFile.names(in: directory)) ?? [] where name.hasPrefix(prefix) && name.hasSuffix(".log") {
            do {
                try ConsoleLogs.cut("\(directory)/\(name)")
            } catch {
                logger.warning("libvirt's log of a machine not bounded", metadata: ["name": "\(name)", "error": "\(error)"])
            }
        }
    }

    /// Idempotent. Blocks.
    func remove(_ name: String) {
        guard MachineSpec.isName(name, longest: 64) else { return }
        unlink("\(directory)/\(name).log")
    }
}
