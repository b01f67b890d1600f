import Testing

@Suite struct SuiteTests {
    /// A regression in what boots machines shows as a failed test, not as a run that hangs.
    @Test func everySuiteThatBootsMachinesHasATimeLimit() throws {
        let suites = try Repository.files(".swift", below: "Tests").flatMap { path, text in
            text.split(separator: "\n").filter { $0.hasPrefix("@Suite(") }.map { "\(path): \($0)" }
        }
        let bootMachines = suites.filter { $0.contains("systemTestsEnabled") || $0.contains("SystemTestGround.isWanted") }
        #expect(bootMachines.count > 15)
        #expect(bootMachines.filter { !$0.contains(".timeLimit(") } == [])
    }
}
