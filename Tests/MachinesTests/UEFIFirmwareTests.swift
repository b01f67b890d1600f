import Errors
import Foundation
import Testing

@testable import Machines

@Suite(.enabled(if: geteuid() == 0, "files are given to another user")) struct UEFIFirmwareTests {
    private let owner = MachineUser(uid: 2_001_500_001, gid: 2_001_500_001)
    private let directory = "/tmp/swiftlet-uefi-\(UUID().uuidString.prefix(8))"

    private func withFirmware(_ body: (UEFIFirmware, String) async throws -> Void) async throws {
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        for (name, bytes) in [("code", 1), ("template", 1000)] {
            try Data(repeating: UInt8(bytes & 0xFF), count: bytes).write(to: URL(filePath: "\(directory)/\(name)"))
        }
        try await body(UEFIFirmware(code: "\(directory)/code", template: "\(directory)/template"), "\(directory)/vars")
    }

    @Test func aMachineGetsItsOwnVariablesAndKeepsThemWhenAsked() async throws {
        try await withFirmware { firmware, path in
            #expect(firmware.obstacle() == nil)
            try await firmware.makeVariables(path, keep: true, owner: owner)
            let attributes = try FileManager.default.attributesOfItem(atPath: path)
            #expect(attributes[.ownerAccountID] as? UInt32 == owner.uid && attributes[.posixPermissions] as? Int == 0o600)
            #expect(FileManager.default.contentsEqual(atPath: path, andPath: firmware.template))
            let changed = Data(repeating: 7, count: 1000)
            try changed.write(to: URL(filePath: path))
            try await firmware.makeVariables(path, keep: true, owner: owner)
            #expect(FileManager.default.contents(atPath: path) == changed)
            try await firmware.makeVariables(path, keep: false, owner: owner)
            #expect(FileManager.default.contentsEqual(atPath: path, andPath: firmware.template))
        }
    }

    @Test func whatIsNoFirmwareIsRefusedByName() async throws {
        func expectRefused(_ words: String, _ body: () async throws -> Void) async {
            await #expect {
                try await body()
            } throws: {
                ($0 as? SwiftletError)?.code == .failedPrecondition && "\($0)".contains(words)
            }
        }
        try await withFirmware { firmware, path in
            try Data(count: 999).write(to: URL(filePath: path))
            await expectRefused("not a file of 1000 bytes") { try await firmware.makeVariables(path, keep: true, owner: owner) }
            let absent = UEFIFirmware(code: "\(directory)/absent", template: firmware.template)
            await expectRefused("package ovmf") { try await absent.makeVariables(path, keep: false, owner: owner) }
            #expect(absent.obstacle()?.contains("\(directory)/absent") == true)
            let names = try FileManager.default.contentsOfDirectory(atPath: directory).sorted()
            #expect(names == ["code", "template", "vars"])
        }
    }
}
