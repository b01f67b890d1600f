import AgentProtocol
import Dispatch
import Errors
import Foundation
import Support
import SwiftProtobuf

/// A container-probe in mount and PID namespaces of its own, with a scratch directory and a cgroup that go with it.
final class ProbeClient: Sendable {
    struct Outcome: Equatable {
        var code: Int
        var stdout: String
        var stderr: String
    }

    var scratch: URL { URL(fileURLWithPath: directory.path) }
    private var cgroup: String { group.path }
    private let directory: HeldDirectory
    private let group: HeldDirectory
    private let process: ChildProcess
    private let input: FileHandle
    private let output: LineReader
    private let queue = DispatchQueue(label: "container-probe")

    /// Runs `body` with a probe that has the image's layers as disks, and checks that nothing is left afterwards.
    static func with(_ image: TestImage, _ body: (ProbeClient) async throws -> Void) async throws {
        let probe = try ProbeClient(image)
        do {
            try await body(probe)
        } catch {
            await probe.end()
            throw error
        }
        await probe.end()
    }

    private init(_ image: TestImage) throws {
        directory = try HeldDirectory("swiftlet-container-", mode: 0o755)
        group = try HeldDirectory("swiftlet-container-", in: Self.unifiedHierarchy(), mode: 0o755)
        process = ChildProcess()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/unshare")
        process.arguments = [
            "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", Self.executable, "--scratch", directory.path, "--cgroup",
            group.path,
        ]
        for (serial, file) in image.files { process.arguments?.append(contentsOf: ["--layer", "\(serial)=\(file)"]) }
        let toProbe = Pipe()
        let fromProbe = Pipe()
        process.standardInput = toProbe
        process.standardOutput = fromProbe
        input = toProbe.fileHandleForWriting
        output = LineReader(fromProbe.fileHandleForReading)
        try process.run()
    }

    /// The probe lies beside the test bundle's executable.
    private static let executable = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
        .deletingLastPathComponent().appendingPathComponent("container-probe").path

    private static func unifiedHierarchy() throws -> String {
        let mounts = try String(contentsOfFile: "/proc/self/mounts", encoding: .utf8)
        for line in mounts.split(separator: "\n") {
            let fields = line.split(separator: " ")
            if fields.count > 2, fields[2] == "cgroup2" { return String(fields[1]) }
        }
        throw SwiftletError(.failedPrecondition, "no cgroup v2 hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
    }

    private func end() async {
        await onQueue {
            try? self.input.close()
            self.process.waitUntilExit()
            self.group.remove()
            self.directory.remove()
        }
    }

    private func onQueue<Result: Sendable>(_ work: @escaping @Sendable () -> Result) async -> Result {
        await withCheckedContinuation { continuation in queue.async { continuation.resume(returning: work()) } }
    }

    /// Sends one command. - Returns: the words after "ok". - Throws: the error that the probe answered.
    @discardableResult
    func send(_ words: String...) async throws -> [String] {
        let line = words.joined(separator: " ") + "\n"
        let answer = await onQueue { () -> String? in
            try? self.input.write(contentsOf: Data(line.utf8))
            return self.output.next()
        }
        let parts = (answer ?? "").split(separator: " ", omittingEmptySubsequences: false).map(String.init)
        if parts.first == "ok" { return Array(parts.dropFirst()) }
        guard parts.first == "error", parts.count > 2, let code = SwiftletError.Code(rawValue: parts[1]) else {
            throw SwiftletError(.dataLoss, "the probe ended or answered \(answer ?? "nothing") to \(words[0])")
        }
        throw SwiftletError(code, parts[2...].joined(separator: " "))
    }

    /// Creates, prepares and starts a container. - Returns: its first process's pid.
    @discardableResult
    func launch(_ id: String, _ spec: AgentContainerSpec) async throws -> Int {
        try await create(id, spec)
        try await send("prepare", id, spec.process.terminal ? "terminal" : "pipes")
        return Int(try await send("start", id, id)[0]) ?? 0
    }

    func create(_ id: String, _ spec: AgentContainerSpec) async throws {
        try await send("create", id, hex(try spec.serializedBytes()))
    }

    /// Runs a container to its end and deletes it.
    func run(_ spec: AgentContainerSpec, id: String = "c") async throws -> Outcome {
        try await launch(id, spec)
        let outcome = try await wait(id)
        try await send("release", id)
        return outcome
    }

    func exec(_ container: String, _ arguments: [String], as spec: AgentProcessSpec? = nil) async throws -> Outcome {
        var process = spec ?? AgentProcessSpec()
        process.args = arguments
        let name = UUID().uuidString
        try await send("exec", container, name, spec == nil ? "inherit" : "own", hex(try process.serializedBytes()))
        return try await wait(name)
    }

    /// Until `arguments` end with 0: what a container's first process does takes the time it takes.
    func until(_ container: String, _ arguments: String...) async throws {
        while try await exec(container, arguments).code != 0 {}
    }

    func wait(_ name: String) async throws -> Outcome {
        let words = try await send("wait", name)
        return Outcome(code: Int(words[0]) ?? -1, stdout: text(words[1]), stderr: words.count > 2 ? text(words[2]) : "")
    }

    /// The processes that a container has, by its cgroup.
    func processes(of container: String) -> [Int] {
        let found = FileManager.default.subpaths(atPath: cgroup)?.first { $0.hasSuffix("/\(container)/cgroup.procs") }
        return found.flatMap { try? String(contentsOfFile: "\(cgroup)/\($0)", encoding: .utf8) }?
            .split(separator: "\n").compactMap { Int($0) } ?? []
    }

    /// What the machine holds for containers, once background removal is done and its thread has closed its files.
    func held() async throws -> String {
        var held = ""
        for _ in 0..<3000 {
            held = try await send("held").joined(separator: " ")
            if held.contains("trash=[]") && held.hasSuffix("removals=0") { break }
            try await Task.sleep(for: .milliseconds(10))
        }
        return held
    }
}

/// Lines from a pipe; used on one queue only.
private final class LineReader: @unchecked Sendable {  // safe: ProbeClient's queue serialises every use
    private let handle: FileHandle
    private var buffer = Data()

    init(_ handle: FileHandle) { self.handle = handle }

    func next() -> String? {
        while true {
            if let end = buffer.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: buffer[..<end], as: UTF8.self)
                buffer = Data(buffer[(end + 1)...])
                return line
            }
            let chunk = handle.availableData
            if chunk.isEmpty { return nil }
            buffer.append(chunk)
        }
    }
}

func hex(_ bytes: [UInt8]) -> String { bytes.map { String(format: "%02x", $0) }.joined() }

private func text(_ hex: String) -> String {
    let digits = Array(hex.utf8)
    let bytes = stride(from: 0, to: digits.count - 1, by: 2).compactMap {
        UInt8(String(decoding: digits[$0...$0 + 1], as: UTF8.self), radix: 16)
    }
    return String(decoding: bytes, as: UTF8.self)
}
