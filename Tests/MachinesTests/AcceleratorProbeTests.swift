import Foundation
import Logging
import Testing

@testable import Machines

struct AcceleratorProbeTests {
    private func withDirectory(_ body: (String) async throws -> Void) async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "swiftlet-probe-\(UUID())")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        try await body(directory.path)
    }

    /// A stand-in for QEMU that counts its guests.
    private func emulator(_ script: String, in directory: String) throws -> String {
        let path = "\(directory)/qemu"
        let text = "#!/bin/sh\n[ \"$1\" = --version ] && { echo QEMU 1; exit; }\necho x >> \(directory)/runs\n\(script)\n"
        try Data(text.utf8).write(to: URL(filePath: path))
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
        return path
    }

    private func probe(_ directory: String, _ script: String) throws -> AcceleratorProbe {
        AcceleratorProbe(
            kernel: "/vmlinuz", cacheFile: "\(directory)/accelerator", emulator: try emulator(script, in: directory), device: "/dev/null",
            deadline: .seconds(30))
    }

    private func runs(_ directory: String) -> Int { (try? Data(contentsOf: URL(filePath: "\(directory)/runs")).count / 2) ?? 0 }

    @Test func theAdministratorsWordNeedsNoProof() async throws {
        try await withDirectory { directory in
            for choice in [AcceleratorProbe.Choice.kvm, .tcg] {
                var probe = try probe(directory, "exit 1")
                probe.choice = choice
                #expect(await probe.verdict().rawValue == choice.rawValue)
            }
            #expect(runs(directory) == 0)
        }
    }

    @Test func aGuestThatRunsProvesKVMOnce() async throws {
        try await withDirectory { directory in
            let probe = try probe(directory, "exit 85")
            #expect(await probe.verdict() == .kvm)
            #expect(await probe.verdict() == .kvm)
            #expect(runs(directory) == 1)
            // Another kernel is another question.
            var other = probe
            other.kernel = "/vmlinuz-2"
            #expect(await other.verdict() == .kvm)
            #expect(runs(directory) == 2)
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory).sorted() == ["accelerator", "qemu", "runs"])
        }
    }

    @Test(arguments: ["exit 0", "exit 1", "echo SWIFTLET"])
    func aGuestThatEndsOtherwiseMeansEmulation(script: String) async throws {
        try await withDirectory { directory in
            let probe = try probe(directory, script)
            #expect(await probe.verdict() == .tcg)
            #expect(await probe.verdict() == .tcg)
            #expect(runs(directory) == 1)
        }
    }

    @Test func aGuestThatHangsMeansEmulation() async throws {
        try await withDirectory { directory in
            var probe = try probe(directory, "exec sleep 1000")
            probe.deadline = .milliseconds(100)
            #expect(await probe.verdict() == .tcg)
        }
    }

    @Test func withoutTheDeviceNothingIsTried() async throws {
        try await withDirectory { directory in
            var probe = try probe(directory, "exit 85")
            probe.device = "\(directory)/absent"
            #expect(await probe.verdict() == .tcg)
            #expect(runs(directory) == 0)
        }
    }
}

@Suite(.tags(.system), .enabled(if: SystemTestGround.isWanted), .timeLimit(.minutes(3)))
struct AcceleratorProbeSystemTests {
    @Test func theProbeGuestRunsUnderTheEmulator() async {
        let probe = AcceleratorProbe(
            kernel: "\(SystemTestGround.guest)/vmlinuz", cacheFile: "/tmp/swiftlet-probe-\(UUID())", deadline: .seconds(60))
        #expect(await probe.whyItDoesNotRun(.tcg) == nil)
    }
}
