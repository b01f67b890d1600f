import Foundation
import Logging
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

    @Test func aPoolThatTheNodeHasNoRoomForIsRefusedByName() async throws {
        let logger = Logger(label: "test")
        var configuration = Configuration()
        configuration.machine.accelerator = "tcg"
        let none = try await configuration.microVM(logger: logger).pool
        #expect(none.size == 0 && !none.drains, "none unless asked for")
        (configuration.pool.size, configuration.pool.drain) = (1, true)
        let one = try await configuration.microVM(logger: logger).pool
        #expect(one.size == 1 && one.drains)
        configuration.machine.defaultMemory = 1 << 20
        configuration.machine.podUIDs = 8
        for (size, reason) in [(-1, "0 to 1024"), (1025, "0 to 1024"), (1024, "MiB")] {
            configuration.pool.size = size
            let refusal = await Self.refusal(configuration)
            #expect(refusal.contains("pool.size \(size)") && refusal.contains(reason), "\(refusal)")
        }
        (configuration.machine.defaultMemory, configuration.pool.size, configuration.machine.podUIDs) = (128, 2, 2)
        #expect(await Self.refusal(configuration).contains("pod_uid_count"))
    }

    private static func refusal(_ configuration: Configuration) async -> String {
        do {
            _ = try await configuration.microVM(logger: Logger(label: "test"))
            return ""
        } catch {
            return "\(error)"
        }
    }
}
