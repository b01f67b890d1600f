import Errors
import Runtime
import Testing

@Suite struct OutputBudgetTests {
    private let budget = OutputBudget(.init(call: 100, free: 10, pod: 150, node: 200))

    @Test func aCallKeepsNoMoreThanItsLimit() throws {
        let call = budget.allowance(for: "a")
        #expect(try call.take(60) == 60)
        #expect(try call.take(60) == 40)
        #expect(try call.take(60) == 0)
    }

    @Test func largeOutputsOfOneTenantMakeNobodysSmallOneFail() throws {
        // 90 of each call count.
        let (first, second) = (budget.allowance(for: "a"), budget.allowance(for: "a"))
        #expect(try first.take(100) == 100)
        let own = #expect(throws: SwiftletError.self) { try second.take(100) }
        #expect(own?.code == .resourceExhausted && own?.message.contains("90 of the 150 bytes that all of the pod") == true)
        #expect(try second.take(10) == 10)
        let other = budget.allowance(for: "b")
        #expect(try other.take(100) == 100)
        let third = budget.allowance(for: "c")
        let full = #expect(throws: SwiftletError.self) { try third.take(40) }
        #expect(full?.code == .resourceExhausted && full?.message.contains("180 of the 200 bytes that all of the node") == true)
        #expect(try third.take(10) == 10)
    }

    @Test func whatACallTookIsGivenBackWithIt() throws {
        for _ in 0..<10 {
            let calls = ["a", "b"].map { budget.allowance(for: $0) }
            for call in calls { #expect(try call.take(100) == 100) }
        }
    }
}
