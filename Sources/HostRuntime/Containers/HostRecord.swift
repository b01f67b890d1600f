import Errors
import Foundation
import Glibc
import Linux
import Runtime
import State

/// What a daemon that has restarted must know of a container, in a file of its bundle.
struct HostRecord: StoredDocument {
    static let what = "record of a container on the node"

    enum Phase: String, Codable, Sendable {
        case created
        /// Its start was asked for.
        case starting
        case started
    }

    struct End: Codable, Sendable, Equatable {
        var code: Int32
        var outOfMemory: Bool
        /// Unix time in nanoseconds by the node's clock.
        var at: Int64
        var message: String

        var exit: ProcessExit { ProcessExit(code: code, outOfMemory: outOfMemory, exitedAt: at, message: message) }
    }

    var container: String
    var terminal: Bool
    var stdin: Bool
    var stdinOnce: Bool
    /// Absolute; empty: no log.
    var logPath: String
    var layers: [String]
    var phase = Phase.created
    /// The first process, and conmon.
    var process: ProcessIdentity?
    var monitor: ProcessIdentity?
    var cgroup: [ContainerCgroup.Directory] = []
    /// That conmon is in.
    var monitorCgroup: ProcessCgroup?
    var end: End?
    /// The processes whose namespaces it joins.
    var targets: [ProcessIdentity] = []

    /// Replaces the file in one step. Blocks.
    func write(_ path: String) throws {
        do {
            try stored().write(to: URL(fileURLWithPath: path), options: .atomic)
        } catch {
            throw SwiftletError(.internal, "write \(path)", cause: error)
        }
    }

    /// Of all containers of a pod. Blocks.
    static func all(in directory: String) throws -> [HostRecord] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        return try names.filter { Leftover.isPodPrefix($0) }.compactMap { name in
            do {
                return try read(ContainerBundle(directory: "\(directory)/\(name)").record)
            } catch let error as SwiftletError where error.code == .notFound {
                return nil
            }
        }
    }
}

extension HostRecord.End {
    /// What conmon has written of the container's end; nil: nothing. Blocks.
    static func read(_ bundle: ContainerBundle, container: String) -> HostRecord.End? {
        let path = bundle.exitFile(container)
        var status = stat()
        guard let text = KernelFile.text(path, limit: 32), let code = Int32(text.filter { !$0.isWhitespace }), stat(path, &status) == 0
        else { return nil }
        let at = Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec)
        return HostRecord.End(code: code, outOfMemory: access(bundle.outOfMemoryFile, F_OK) == 0, at: at, message: "")
    }
}
