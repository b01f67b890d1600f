import AgentClient
import Errors
import Foundation
import Linux
import Logging
import MachineFakes
import Machines
import PodMachine
import PodNetwork
import Runtime
import State
import Support
import Synchronization
import Testing

@testable import MicroVMRuntime

/// The real handler on a hypervisor without machines.
struct MicroVMHandlerTests {
    private static func withHandler(
        vsock: VsockSupport = .vhostUser, agent: String? = nil, _ body: (MicroVMHandler, RecordingHypervisor, String) async throws -> Void
    ) async throws {
        let directory = NSTemporaryDirectory() + "handler-\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        for file in ["vmlinuz", "initramfs"] { try Data().write(to: URL(filePath: "\(directory)/\(file)")) }
        var configuration = MicroVMConfiguration(
            kernel: "\(directory)/vmlinuz", initramfs: "\(directory)/initramfs", runDirectory: "\(directory)/run",
            stateDirectory: "\(directory)/state", vsockBackend: "/bin/false", accelerator: .tcg, vsock: vsock, users: try .test(),
            sharedUser: .test)
        configuration.scratchSize = 16 << 20
        configuration.agent = agent
        configuration.pool.size = 1
        let hypervisor = RecordingHypervisor()
        let logger = Logger(label: "test")
        let networks = PodNetworks(configuration: CNIConfiguration(cacheDirectory: "\(directory)/cni"), logger: logger)
        let resources = MicroVMResources(
            configuration: configuration,
            machines: MachineResources(hypervisor: hypervisor, networks: networks, users: configuration.users, logger: logger))
        let handler = try await MicroVMHandler(resources: resources, logger: logger)
        try await body(handler, hypervisor, directory)
        await hypervisor.close()
    }

    private static func spec(_ id: MachineID) -> MachineSpec {
        MachineSpec(
            id: id, name: "swiftlet-a", shape: MachineShape(memoryBytes: 128 << 20, vcpus: 1, accelerator: .tcg),
            boot: .kernel(path: "/k", initramfs: "/i", arguments: []), devices: [])
    }

    @Test(.timeLimit(.minutes(1))) func anEndMissedWhileLibvirtWasAwayIsFoundAlthoughItDoesNotAnswerAtFirst() async throws {
        try await Self.withHandler { handler, hypervisor, _ in
            let (gone, alive) = (MachineID(UUID()), MachineID(UUID()))
            for id in [gone, alive] { _ = try await hypervisor.start(Self.spec(id)) }
            async let reason = handler.ends.wait(for: gone)
            let other = Task { await handler.ends.wait(for: alive) }
            while Set(handler.ends.awaited) != [gone, alive] { try await Task.sleep(for: .milliseconds(5)) }
            hypervisor.inject(.fail(.unavailable), at: .machines, times: 2)
            hypervisor.send(.connectionLost)
            hypervisor.end(gone, reported: false)
            hypervisor.send(.reconnected)
            #expect(await reason == "ended while libvirt was away")
            #expect(hypervisor.calls(.machines).count == 3)
            #expect(handler.ends.awaited == [alive])
            other.cancel()
            _ = await other.value
        }
    }

    /// The initramfs makes the first disk the guest's root, and a machine of the pool has the one that it booted with.
    @Test func theAgentsDiskIsTheFirst() async throws {
        try await Self.withHandler { handler, _, _ in
            let names = MachineNames(id: "a", configuration: handler.configuration)
            let disks = handler.machineSpec(names, handler.configuration.defaultExtent).disks
            #expect(disks.map(\.serial) == [names.scratchSerial], "none without one")
        }
        let agent = NSTemporaryDirectory() + "agent-\(UInt32.random(in: 0 ... .max)).erofs"
        try await Self.withHandler(agent: agent) { handler, _, _ in
            let names = MachineNames(id: "a", configuration: handler.configuration)
            let disks = handler.machineSpec(names, handler.configuration.defaultExtent).disks
            #expect(disks.map(\.serial) == ["agent", names.scratchSerial])
            #expect(disks.first?.path == agent && disks.first?.readOnly == true && disks.first?.bus == .scsi)
            let obstacle = await handler.obstacle()
            #expect(obstacle?.contains(agent) == true, "\(obstacle ?? "none")")
            let missing = await handler.blueprints()
            defer { try? FileManager.default.removeItem(atPath: agent) }
            try Data(count: 1).write(to: URL(filePath: agent))
            #expect(await handler.blueprints() != missing)
        }
    }

    @Test func anEndBeforeAnybodyListensIsNotLost() async {
        let (ends, machine) = (MachineEnds(), MachineID(UUID()))
        let expected = ends.expected(of: machine)
        ends.ended(machine, .poweredOff)
        #expect(await expected.first { _ in true } == .poweredOff)
        _ = ends.expected(of: machine)
        #expect(ends.awaited.isEmpty)
    }

    /// One whose disks may be kept is asked to end, which takes longer.
    @Test func aMachineThatKeepsNothingIsKilled() async throws {
        try await Self.withHandler { handler, hypervisor, directory in
            let database = try StateDatabase(path: "\(directory)/state.sqlite")
            let ledger = Ledger(owner: "pod", database: database)
            let (disposable, kept) = (MachineID(UUID()), MachineID(UUID()))
            for (id, keepsNothing) in [(disposable, true), (kept, Bool?.none)] {
                _ = try await hypervisor.start(Self.spec(id))
                let document = MachineDocument(process: nil, contextID: nil, keepsNothing: keepsNothing)
                try await ledger.note(.machine, id.uuid.uuidString, document)
            }
            #expect(await ledger.releaseAll(by: Releasers(handler.machines.releasers)).isEmpty)
            #expect(hypervisor.running.isEmpty)
            #expect(hypervisor.killed == [disposable])
        }
    }

    @Test func whetherPodsCanStartIsAskedWithoutAListOfMachines() async throws {
        try await Self.withHandler { handler, hypervisor, _ in
            #expect(await handler.obstacle() == nil)
            hypervisor.inject(.fail(.unavailable), at: .machine)
            #expect(await handler.obstacle() != nil)
            #expect(hypervisor.calls(.machines).isEmpty)
        }
    }

    @Test func interfacesThatAMachineCannotHaveAreRefusedByName() throws {
        func interfaces(_ count: Int, mac: String = "02:00:00:00:00:02") -> [AttachedInterface] {
            (0..<count).map { AttachedInterface(name: "net\($0)", mac: mac, mtu: 1500, addresses: []) }
        }
        for count in 0...4 { try MicroVMHandler.requirePluggable(interfaces(count)) }
        for refused in [interfaces(5), interfaces(1, mac: "")] {
            let error = #expect(throws: SwiftletError.self) { try MicroVMHandler.requirePluggable(refused) }
            #expect(error?.code == .failedPrecondition && error?.message.contains("\"net0\"") == true, "\(String(describing: error))")
        }
    }

    /// No two of them are alike, and the kernel takes their names.
    @Test func aMachinesInterfacesHaveNamesAndAddressesOfTheirOwn() async throws {
        try await Self.withHandler { handler, _, _ in
            let names = MachineNames(id: "0123456789abcdef0123", configuration: handler.configuration)
            let numbers = 1...MachineNames.mostFurtherInterfaces
            let taps = [names.tap] + numbers.map(names.furtherTap)
            let macs = [names.bootMAC] + numbers.map(names.furtherMAC)
            #expect(Set(taps).count == 5 && taps.allSatisfy { $0.utf8.count <= 15 })
            #expect(Set(macs).count == 5)
            for mac in macs {
                let address = try #require(MACAddress(mac))
                #expect(address.bytes[0] & 3 == 2, "local and unicast: \(mac)")
            }
        }
    }

    @Test func aGuestThatRunsAContainerAsSomebodyElseIsRefused() throws {
        var plan = ContainerPlan(
            spec: ContainerSpec(metadata: .init(name: "c", attempt: 0), image: "i"), root: .layers([]), arguments: ["/x"], environment: [],
            workingDirectory: "/", user: try UserReference(parsing: "1000", ""), stopSignal: 15)
        try MicroVMSandbox.check(ContainerUser(uid: 1000, gid: 7, groups: [7]), against: plan)
        #expect(throws: SwiftletError.self) { try MicroVMSandbox.check(ContainerUser(uid: 0, gid: 7, groups: [7]), against: plan) }
        plan.spec.group = 5
        #expect(throws: SwiftletError.self) { try MicroVMSandbox.check(ContainerUser(uid: 1000, gid: 7, groups: [7]), against: plan) }
        plan.user = try UserReference(parsing: "app", "")
        try MicroVMSandbox.check(ContainerUser(uid: 0, gid: 5, groups: [5]), against: plan)
        let groups = Array(repeating: UInt32(1), count: 70_000)
        #expect(throws: SwiftletError.self) { try MicroVMSandbox.check(ContainerUser(uid: 0, gid: 5, groups: groups), against: plan) }
    }

    @Test func onlyWhoMayAdministerNetworksHasTheKernelsModules() throws {
        var configuration = MicroVMConfiguration(
            kernel: "/k", initramfs: "/i", runDirectory: "/r", stateDirectory: "/s", vsockBackend: "/v", accelerator: .tcg,
            vsock: .vhostUser, users: try .test(), sharedUser: .test)
        func disk(_ change: (inout ContainerSpec) -> Void) -> String? {
            var spec = ContainerSpec(metadata: .init(name: "c", attempt: 0), image: "i")
            change(&spec)
            return configuration.modulesDisk(for: spec)?.path
        }
        #expect(disk { $0.privileged = true } == nil, "a kernel that needs none")
        configuration.modules = "/m"
        #expect(disk { _ in } == nil)
        #expect(disk { $0.capabilities.add = ["SYS_ADMIN", "NET_RAW"] } == nil)
        #expect(disk { $0.privileged = true } == "/m")
        for name in ["NET_ADMIN", "cap_net_admin", "ALL"] { #expect(disk { $0.capabilities.add = [name] } == "/m", "\(name)") }
        let dropped = disk {
            $0.capabilities.add = ["ALL"]
            $0.capabilities.drop = ["NET_ADMIN"]
        }
        #expect(dropped == nil)
    }

    /// The guest is asked to forget it: what it was asked for before goes with that, and nothing may follow.
    @Test(.timeLimit(.minutes(1))) func aCreationThatWasGivenUpReachesTheGuestNoMore() async throws {
        try await Self.withHandler { handler, hypervisor, directory in
            let names = Self.names(handler)
            try FileManager.default.createDirectory(
                atPath: (names.hostSocket as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
            let asked = Mutex<[String]>([])
            let guest = try InProcessGuest(at: names.hostSocket) { method in
                asked.withLock { $0.append(method) }
                return InProcessGuest.plain(method)
            }
            defer { guest.end() }
            _ = try await hypervisor.start(Self.spec(names.machine))
            let ledger = Ledger(owner: "pod", database: try StateDatabase(path: directory + "/state.sqlite"))
            let client = try await AgentClient.connect(to: handler.address(names), deadline: .now + .seconds(30))
            let sandbox = MicroVMSandbox(
                names: names, networkNamespace: nil, process: nil, client: client, mark: CrashMark(), handler: handler, ledger: ledger,
                isNew: true)
            defer { sandbox.close() }
            let plan = ContainerPlan(
                spec: ContainerSpec(metadata: .init(name: "c", attempt: 0), image: "i"),
                root: .layers([LayerImage(path: "/layer", serial: "layer", filesystem: "erofs", sizeBytes: 4096)]), arguments: ["/x"],
                environment: [], workingDirectory: "/", user: try UserReference(parsing: "1000", ""), stopSignal: 15)
            let late = Task {
                while !Task.isCancelled { await Task.yield() }
                return try await sandbox.createContainer("a", plan, ledger: ledger)
            }
            late.cancel()
            await #expect(throws: (any Error).self) { try await late.value }
            #expect(asked.withLock { $0 } == ["GetInfo"])

            // The guest is asked while the layers are being attached, and asked to forget the container behind that.
            hypervisor.inject(.hold, at: .attach)
            let creation = Task { try await sandbox.createContainer("c", plan, ledger: ledger) }
            try await eventually("its layers are being attached") { !hypervisor.calls(.attach).isEmpty }
            try await eventually("the guest is asked") { asked.withLock { $0.contains("CreateContainer") } }
            creation.cancel()
            try await sandbox.deleteContainer("c")
            hypervisor.heal(.attach)
            _ = await creation.result
            #expect(asked.withLock { $0 } == ["GetInfo", "CreateContainer", "DeleteContainer"])

            // Disks that do not come fail the creation, whatever the guest says.
            var other = plan
            other.root = .layers([LayerImage(path: "/other", serial: "other", filesystem: "erofs", sizeBytes: 4096)])
            hypervisor.inject(.fail(.dataLoss), at: .attach)
            let failed = other
            let error = await #expect(throws: SwiftletError.self) { try await sandbox.createContainer("d", failed, ledger: ledger) }
            #expect(error?.code == .dataLoss)
        }
    }

    private static func names(_ handler: MicroVMHandler) -> MachineNames {
        MachineNames(id: "0123456789abcdef", configuration: handler.configuration)
    }

    private static func extent(_ handler: MicroVMHandler) -> MachineExtent {
        handler.configuration.extent(for: PodDemand(pod: nil, overhead: nil))
    }

    @Test func aContextIDOfAnotherMachineIsReplacedAndTheOneTakenIsKept() async throws {
        try await Self.withHandler(vsock: .kernel) { handler, hypervisor, directory in
            let ledger = Ledger(owner: "pod", database: try StateDatabase(path: directory + "/state.sqlite"))
            hypervisor.inject(.fail(.alreadyExists), at: .start, times: 2)
            let (names, _) = try await handler.startMachine(Self.names(handler), Self.extent(handler), ledger)
            let tried = hypervisor.calls(.start).compactMap { call -> UInt32? in
                if case .start(let spec) = call, case .kernel(let cid) = spec.vsock { cid } else { nil }
            }
            #expect(tried.count == 3 && Set(tried).count == 3 && tried.last == names.contextID)
            #expect(try ledger.entry(.machine)?.decoded(MachineDocument.self).contextID == names.contextID)
            #expect(tried.first == Self.names(handler).contextID, "what earlier releases derived comes first")

            hypervisor.inject(.fail(.alreadyExists), at: .start)
            await #expect(throws: SwiftletError.self) {
                _ = try await handler.startMachine(Self.names(handler), Self.extent(handler), ledger)
            }
            #expect(hypervisor.calls(.start).count == 3 + 8)
        }
        try await Self.withHandler { handler, hypervisor, directory in
            let ledger = Ledger(owner: "pod", database: try StateDatabase(path: directory + "/state.sqlite"))
            hypervisor.inject(.fail(.alreadyExists), at: .start)
            await #expect(throws: SwiftletError.self) {
                _ = try await handler.startMachine(Self.names(handler), Self.extent(handler), ledger)
            }
            #expect(hypervisor.calls(.start).count == 1, "vsockd's bus is the machine's own")
        }
    }
}
