import Testing

@testable import Linux

struct NodeMemoryTests {
    @Test func availableMemoryAndPressureAreRead() {
        let meminfo = "MemTotal:       24576000 kB\nMemFree:  1 kB\nMemAvailable:     2048 kB\n"
        let pressure = "some avg10=12.50 avg60=1.00 avg300=0.00 total=673051\nfull avg10=3.00 avg60=0.00 avg300=0.00 total=1\n"
        #expect(NodeMemory(meminfo: meminfo, pressure: pressure) == NodeMemory(available: 2 << 20, pressure: 12.5))
        #expect(NodeMemory(meminfo: meminfo, pressure: "") == NodeMemory(available: 2 << 20))
        #expect(NodeMemory(meminfo: "", pressure: pressure) == nil)
    }

    @Test func thisNodeSaysHowMuchItHas() throws {
        #expect(try #require(NodeMemory.now()).available > 0)
    }
}
