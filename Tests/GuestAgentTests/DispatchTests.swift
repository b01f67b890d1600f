import AgentProtocol
import Errors
import Linux
import Testing

@testable import GuestAgent

@Suite struct DispatchTests {
    /// The compiler checks that each method has an entry; here, that it is its own.
    @Test func everyMethodOfTheContractIsServedByItsOwnEntry() throws {
        let loop = try EventLoop(name: "dispatch")
        let service = AgentService(
            dependencies: AgentService.Dependencies(
                makeContainer: { _, _, _ throws(SwiftletError) in throw SwiftletError(.unimplemented, "no containers here") },
                startSandbox: { _ throws(SwiftletError) in throw SwiftletError(.unimplemented, "no sandbox here") },
                setTime: { _ throws(SwiftletError) in }, powerOff: {}, info: { .init() }),
            reaper: try Reaper(scope: .launched, loop: loop), streams: StreamServer(loop: loop), workers: try WorkerPool(limit: 1),
            loop: loop)
        for method in AgentMethodName.allCases { #expect(service.route(method).method == method) }
    }
}
