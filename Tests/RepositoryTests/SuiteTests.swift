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

    /// Foundation's `Process` reads beyond the buffer of readdir(3), as does whoever copies `d_name` as a value; either ends the process now
    /// and then. `ChildProcess` and `clinux_entry_name` do not.
    @Test func nothingReadsDirectoryEntriesBeyondTheirEnds() throws {
        let files = try ["Sources", "agent", "Tests"].flatMap { try Repository.files(".swift", below: $0) }
        let found = files.filter { path, text in
            !path.contains("/Generated/") && !path.hasSuffix("SuiteTests.swift")
                && text.contains(/\.d_name|(?:^|[^A-Za-z.])(?:Foundation\.)?Process\(\)|[^A-Za-z]Process\.run\(/)
        }
        #expect(files.count > 500 && found.map(\.path) == [])
    }
}
