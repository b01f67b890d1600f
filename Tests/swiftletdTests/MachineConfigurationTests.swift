import Foundation
import Logging
import Machines
import MicroVMRuntime
import Testing

@testable import swiftletd

@Suite struct MachineConfigurationTests {
    @Test func theKernelsModulesAreBesideItUnlessNamed() throws {
        let directory = NSTemporaryDirectory() + "guest-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        var machine = Configuration.Machine()
        machine.kernel = directory + "/vmlinuz"
        machine.initramfs = directory + "/initramfs.img"
        #expect(machine.agentImage == nil, "an initramfs alone holds the agent itself")
        try Data().write(to: URL(fileURLWithPath: directory + "/agent.erofs"))
        #expect(machine.agentImage == directory + "/agent.erofs")
        machine.agent = "/elsewhere"
        #expect(machine.agentImage == "/elsewhere")
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

    @Test func shapesOfThePoolAreOnesThatMachinesCanHave() async throws {
        let logger = Logger(label: "test")
        let cpus = min(16, ProcessInfo.processInfo.activeProcessorCount)
        let text = """
            [machine]
            accelerator = "tcg"
            default_memory_mib = 256
            default_cpus = 1
            [pool]
            size = 1
            drain = true
            [[pool.shapes]]
            memory_mib = 128
            size = 2
            [[pool.shapes]]
            memory_mib = 512
            cpus = \(cpus)
            size = 1
            """
        var configuration = try Self.load(text)
        let machines = try await configuration.microVM(logger: logger)
        let shapes = [(256, 1, 1), (128, 1, 2), (512, cpus, 1)].map { memory, cpus, size in
            PoolShape(extent: MachineExtent(memoryBytes: UInt64(memory) << 20, vcpus: cpus), size: size)
        }
        #expect(machines.poolShapes == shapes && machines.pool.drains)

        let shape = configuration.pool.shapes[0]
        func refusal(_ change: (inout Configuration.Pool.Shape) -> Void) async -> String {
            configuration.pool.shapes[1] = shape
            configuration.pool.shapes[1].memory = 512
            change(&configuration.pool.shapes[1])
            return await Self.refusal(configuration)
        }
        let node = ProcessInfo.processInfo.physicalMemory >> 20
        let cases: [(Int, Int?, Int, [String])] = [
            (512, 1, 0, ["pool.shapes[1].size 0", "1 to 1024"]), (512, 1, 1025, ["pool.shapes[1].size 1025"]),
            (127, 1, 1, ["pool.shapes[1].memory_mib 127", "128 to"]), (129, 1, 1, ["pool.shapes[1].memory_mib 129", "multiple of 2"]),
            (512, 0, 1, ["pool.shapes[1].cpus 0", "1 to \(cpus)"]), (512, 1000, 1, ["pool.shapes[1].cpus 1000", "1 to \(cpus)"]),
            (128, 1, 1, ["pool.shapes[1]", "pool.shapes[0]'s already"]), (256, nil, 1, ["pool.shapes[1]", "pool.size's already"]),
            (512, 1, 1024, ["and pool.shapes", "MiB, 1 of 352, 2 of 224, 1024 of 608, and the node has \(node)"]),
        ]
        for (memory, cpus, size, words) in cases {
            let said = await refusal { ($0.memory, $0.cpus, $0.size) = (memory, cpus, size) }
            #expect(words.allSatisfy { said.contains($0) }, "\(said) does not say \(words)")
        }
        configuration.machine.podUIDs = 4
        #expect(await refusal { _ in }.contains("5 machines leave none of machine.pod_uid_count 4"))
        #expect(throws: (any Error).self) { try Self.load("[[pool.shapes]]\nsize = 1") }
    }

    private static func load(_ text: String) throws -> Configuration {
        let file = NSTemporaryDirectory() + "swiftletd-\(UUID().uuidString).toml"
        defer { try? FileManager.default.removeItem(atPath: file) }
        try text.write(toFile: file, atomically: true, encoding: .utf8)
        return try Configuration.load(path: file)
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
