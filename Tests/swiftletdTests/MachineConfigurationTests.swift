import Foundation
import Testing

@testable import swiftletd

@Suite struct MachineConfigurationTests {
    @Test func theKernelsModulesAreBesideItUnlessNamed() throws {
        let directory = NSTemporaryDirectory() + "guest-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        var machine = Configuration.Machine()
        machine.kernel = directory + "/vmlinuz"
        #expect(machine.modulesImage == nil && machine.toolsImage == nil)
        try Data().write(to: URL(fileURLWithPath: directory + "/tools.iso"))
        #expect(machine.toolsImage == directory + "/tools.iso")
        try Data().write(to: URL(fileURLWithPath: directory + "/modules.erofs"))
        #expect(machine.modulesImage == directory + "/modules.erofs")
        machine.modules = "/elsewhere"
        #expect(machine.modulesImage == "/elsewhere", "also when it is absent, which is an obstacle then")
    }
}
