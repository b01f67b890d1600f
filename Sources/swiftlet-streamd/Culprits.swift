import Errors
import Foundation
import Linux
import Logging
import Runtime

/// Guests on whose data this process's predecessors have crashed, for as long as they run.
struct Culprits: Sendable {
    private let crashes: CrashRecord?
    private let names: Set<String>

    /// More than a node has pods: a file that has grown beyond is begun anew.
    private static let limit = 1 << 20

    /// Reads who has crashed the processes before, and notes the last of them.
    ///
    /// - Parameter path: of the file that keeps the names, a line each.
    init(path: String, logger: Logger) {
        do {
            crashes = try CrashRecord(path: path + ".crash")
        } catch {
            logger.warning("crashes are not noted", metadata: ["error": "\(error)"])
            crashes = nil
        }
        var names = Self.known(path)
        if let crash = crashes?.last {
            logger.error("the process before crashed", metadata: ["signal": "\(crash.signal)", "culprit": "\(crash.culprit ?? "unknown")"])
            if let culprit = crash.culprit { names.append(culprit) }
        }
        self.names = Set(names)
        do {
            try Data(names.map { $0 + "\n" }.joined().utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
            chmod(path, 0o600)
        } catch {
            logger.warning("crashed guests are not noted", metadata: ["error": "\(error)"])
        }
    }

    /// The file lies in the run directory, which goes with the node's next start as its guests do.
    private static func known(_ path: String) -> [String] {
        guard let text = FileManager.default.contents(atPath: path), text.count < limit else { return [] }
        return String(decoding: text, as: UTF8.self).split(separator: "\n").map(String.init)
    }

    func mark(for address: VsockAddress) throws -> CrashMark {
        try check(address)
        return crashes?.mark(for: Self.name(address)) ?? CrashMark()
    }

    /// - Throws: `.failedPrecondition` for a guest that is to be left alone.
    func check(_ address: VsockAddress) throws {
        let name = Self.name(address)
        guard names.contains(name) else { return }
        throw SwiftletError(
            .failedPrecondition, "swiftlet-streamd crashed on what this guest (\(name)) sent; it is not connected to again")
    }

    /// Tells a guest from the others, within the length of a mark's name.
    private static func name(_ address: VsockAddress) -> String {
        switch address {
        case .unixProxy(let path): String(decoding: path.utf8.suffix(60), as: UTF8.self)
        case .kernel(let cid): "context id \(cid)"
        }
    }
}
