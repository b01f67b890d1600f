import Errors
import Runtime
import Testing

@testable import Pods

@Suite struct PodLogBudgetTests {
    @Test(
        arguments: [
            (0, nil, 0), (0, "5", 5), (100, nil, 100), (100, "5", 5), (100, "500", 100),
        ] as [(UInt64, String?, UInt64)])
    func annotationsLowerWhatIsConfigured(_ configured: UInt64, _ annotation: String?, _ expected: UInt64) throws {
        for name in [PodLogBudget.bytes, PodLogBudget.operations] {
            let isBytes = name == PodLogBudget.bytes
            let budget = try PodLogBudget.budget(
                annotation.map { [name: $0] } ?? [:],
                configured: LogBudget(
                    bytesPerSecond: isBytes ? configured : 0, operationsPerSecond: isBytes ? 0 : configured, excess: .drop))
            #expect((isBytes ? budget.bytesPerSecond : budget.operationsPerSecond) == expected)
            #expect(budget.excess == .drop)
        }
    }

    @Test(arguments: ["", "0", "-1", "1k", "99999999999999999999"]) func whatIsNoNumberIsRefused(_ text: String) {
        let error = #expect(throws: SwiftletError.self) {
            try PodLogBudget.budget([PodLogBudget.bytes: text], configured: LogBudget())
        }
        #expect(error?.code == .invalidArgument)
    }
}
