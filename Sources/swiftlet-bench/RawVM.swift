import Errors
import Foundation

/// The machine of a pod that is a virtual machine, without the pod: the same QEMU with the same devices, on copies of its disks.
struct RawVM: Sendable {
    let arguments: [String]
    let directory: String

    var console: String { directory + "/console.log" }

    /// Copies what the pod's machine has before it starts.
    static func copyDisks(from state: String, to directory: String) throws {
        try? FileManager.default.removeItem(atPath: directory)
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        for name in ["root.qcow2", "seed.iso"] where FileManager.default.fileExists(atPath: "\(state)/\(name)") {
            try FileManager.default.copyItem(atPath: "\(state)/\(name)", toPath: "\(directory)/\(name)")
        }
    }

    /// Starts it and ends it when `body`, which gets the start and the process, returns.
    func run<Value: Sendable>(_ body: (ContinuousClock.Instant, BenchProcess) async throws -> Value) async throws -> Value {
        let start = ContinuousClock.now
        let process = try BenchProcess("/usr/bin/qemu-system-x86_64", arguments, log: directory + "/qemu.log")
        do {
            let value = try await body(start, process)
            await process.stop(grace: .zero)
            return value
        } catch {
            await process.stop(grace: .zero)
            throw SwiftletError.wrap(error, "raw QEMU's virtual machine (it said: \(process.said))")
        }
    }
}
