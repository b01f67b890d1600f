import Errors
import Foundation
import Testing

@testable import GuestAgent

/// Changes of limits on a directory of plain files, which take any value; what the kernel refuses, a missing file stands for.
@Suite struct CgroupChangeTests {
    private func withFiles(_ files: [String: String], _ body: (String) throws -> Void) throws {
        let path = NSTemporaryDirectory() + "swiftlet-cgroup-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        for (name, value) in files { try value.write(toFile: "\(path)/\(name)", atomically: false, encoding: .utf8) }
        try body(path)
    }

    private func value(_ path: String, _ name: String) -> String? { try? String(contentsOfFile: "\(path)/\(name)", encoding: .utf8) }

    @Test func everyFileIsWritten() throws {
        try withFiles(["cpu.max": "max 100000", "memory.max": "max"]) { path in
            try CgroupChange(path: path, files: ["cpu.max": "20000 100000", "memory.max": "4194304"]).apply()
            #expect(value(path, "cpu.max") == "20000 100000")
            #expect(value(path, "memory.max") == "4194304")
        }
    }

    @Test func oneRefusedFileBringsTheOldValuesBack() throws {
        try withFiles(["cpu.max": "max 100000", "memory.max": "999"]) { path in
            let change = CgroupChange(path: path, files: ["cpu.max": "20000 100000", "memory.max": "111", "pids.max": "5"])
            let error = #expect(throws: SwiftletError.self) { try change.apply() }
            #expect(error?.code == .failedPrecondition && error?.message.contains("pids.max") == true)
            #expect(value(path, "cpu.max")?.hasPrefix("max 100000") == true)
            #expect(value(path, "memory.max")?.hasPrefix("999") == true)
        }
    }

    @Test func aMemoryLimitBelowWhatIsInUseIsRefused() throws {
        try withFiles(["cpu.weight": "39", "memory.max": "max", "memory.current": "5000", "memory.reclaim": ""]) { path in
            let change = CgroupChange(path: path, files: ["cpu.weight": "50", "memory.max": "4096"])
            let error = #expect(throws: SwiftletError.self) { try change.apply() }
            #expect(error?.code == .failedPrecondition && error?.message.contains("5000 bytes are in use") == true)
            #expect(value(path, "memory.reclaim") == "904")
            #expect(value(path, "memory.max") == "max")
            #expect(value(path, "cpu.weight")?.hasPrefix("39") == true)
        }
    }

    @Test func theAgentKeepsItsShareOfTheGuest() {
        let small = AgentReserve(memory: 220 << 20, processes: 1700).files
        #expect(small == ["memory.max": "\(196 << 20)", "pids.max": "1572"])
        let large = AgentReserve(memory: 64 << 30, processes: 32768).files
        #expect(large["memory.max"] == "\(62 << 30)")
        #expect(AgentReserve(memory: 16 << 20, processes: 100).files == ["memory.max": "\(8 << 20)", "pids.max": "50"])
    }
}
