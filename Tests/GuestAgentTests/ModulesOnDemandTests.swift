import AgentProtocol
import Errors
import Synchronization
import Testing

@testable import GuestAgent

@Suite(.timeLimit(.minutes(1))) struct ModulesOnDemandTests {
    @Test func theyAreWantedOnceSomebodyAsksAndThereOnceLoaded() throws {
        let modules = try ModulesOnDemand()
        #expect(!modules.waitUntilWanted(milliseconds: 1))
        #expect(!modules.demand())
        #expect(modules.waitUntilWanted(milliseconds: 60_000))
        modules.areLoaded()
        #expect(modules.demand())
    }

    /// The first container of a pod that needs nothing of them does not wait for them.
    @Test func onlyContainersWithSharesDevicesOrAllPrivilegesWaitForThem() throws {
        let asked = Atomic(0)
        let environment = SandboxEnvironment(
            scratchDirectory: "/scratch",
            volumeModules: {
                asked.add(1, ordering: .relaxed)
                return true
            }, diskPath: { (_) throws(SwiftletError) in "/dev/null" }, hostname: "pod", resolvConfPath: "", hostsPath: "", cgroupRoot: "",
            shared: PodSharedState(scratchDirectory: "/scratch", cgroupRoot: ""))

        func asks(_ change: (inout AgentContainerSpec) -> Void) throws -> Bool {
            var spec = AgentContainerSpec()
            spec.root.layers = [.with { $0.serial = "a" }]
            change(&spec)
            asked.store(0, ordering: .relaxed)
            let devices = try environment.devices(for: spec)
            #expect(devices.disks == ["a"])
            return devices.others.values.reduce(false) { $1() || $0 } && asked.load(ordering: .relaxed) > 0
        }

        #expect(try !asks { _ in })
        #expect(try asks { $0.privileged = true })
        #expect(try asks { $0.devices = [.with { $0.path = "/dev/net/tun" }] })
    }
}
