import AgentProtocol
import Errors
import Linux
import Testing

@testable import GuestAgent

@Suite struct ContainerTableTests {
    @Test func aContainerThatIsDeletedWhileItIsCreatedIsNotEntered() throws {
        let loop = try EventLoop(name: "table")
        let record = ContainerRecord(
            id: "c", process: AgentProcessSpec(), container: PlainContainer("c", AgentContainerSpec(), try HeldLaunch()),
            reaper: try Reaper(scope: .launched, loop: loop), victims: MemoryVictims(), workers: WorkerPool(limit: 1), loop: loop)
        let table = ContainerTable()
        try table.reserve("c")
        #expect(throws: SwiftletError.self) { try table.beginDelete("c") }
        let error = #expect(throws: SwiftletError.self) { try table.enter(record) }
        #expect(error?.code == .aborted)
        #expect(throws: SwiftletError.self) { try table.reserve("c") }
        table.cancel("c")
        try table.reserve("c")
        try table.enter(record)
        #expect(try table.beginDelete("c") === record)
    }
}
