import CoreMetrics
import Measures
import Support
import Testing

@testable import Prometheus

@Suite struct TextTests {
    @Test func everyKindHasItsLines() {
        let registry = PrometheusRegistry([
            MetricDescription("calls_total", "Calls\nby \\ method."), MetricDescription("took_seconds", "Time.", buckets: [0.1, 1]),
        ])
        Counter(label: "calls_total", dimensions: [("method", "b"), ("code", "OK")], factory: registry).increment(by: 2)
        Counter(label: "calls_total", dimensions: [("code", "OK"), ("method", "b")], factory: registry).increment()
        Counter(label: "calls_total", dimensions: [("method", "a"), ("code", "OK")], factory: registry).increment()
        Gauge(label: "pods", factory: registry).record(7)
        Gauge(label: "pods", factory: registry).record(3.5)
        let timer = Timer(label: "took_seconds", factory: registry)
        for milliseconds: Int64 in [50, 100, 250, 5000] { timer.recordNanoseconds(milliseconds * 1_000_000) }
        #expect(
            registry.text() == """
                # HELP calls_total Calls\\nby \\\\ method.
                # TYPE calls_total counter
                calls_total{code="OK",method="a"} 1
                calls_total{code="OK",method="b"} 3
                # TYPE pods gauge
                pods 3.5
                # HELP took_seconds Time.
                # TYPE took_seconds histogram
                took_seconds_bucket{le="0.1"} 2
                took_seconds_bucket{le="1"} 3
                took_seconds_bucket{le="+Inf"} 4
                took_seconds_sum 5.4
                took_seconds_count 4

                """)
    }

    /// What a tenant writes into a label forges no line.
    @Test func labelsAreEscaped() throws {
        let registry = PrometheusRegistry()
        let hostile = "a\"} 1\nforged{x=\"\\"
        Counter(label: "c", dimensions: [("name", hostile)], factory: registry).increment()
        #expect(registry.text() == "# TYPE c counter\nc{name=\"a\\\"} 1\\nforged{x=\\\"\\\\\"} 1\n")
        #expect(try Exposition(registry.text()).samples == [.init(name: "c", labels: ["name": hostile], value: 1)])
    }

    @Test func namesThatTheFormatForbidsAreReplaced() throws {
        let registry = PrometheusRegistry()
        Counter(label: "a.b-c:d", dimensions: [("x:y z", "1"), ("9", "2")], factory: registry).increment()
        Counter(label: "", factory: registry).increment()
        let samples = try Exposition(registry.text()).samples
        #expect(Set(samples.map(\.name)) == ["a_b_c:d", "_"])
        #expect(samples.contains { $0.labels == ["x_y_z": "1", "_9": "2"] })
    }

    @Test(
        arguments: [
            (0, "0"), (1, "1"), (-2, "-2"), (0.25, "0.25"), (1e300, "1e+300"), (.infinity, "+Inf"), (-.infinity, "-Inf"), (.nan, "NaN"),
        ] as [(Double, String)])
    func numbersAreAsGoReadsThem(_ number: Double, _ text: String) {
        #expect(TextFormat.number(number) == text)
    }

    @Test func aNameKeepsTheKindItHadFirst() {
        let registry = PrometheusRegistry()
        Counter(label: "x", factory: registry).increment()
        Gauge(label: "x", factory: registry).record(9)
        Timer(label: "x", factory: registry).recordNanoseconds(1)
        #expect(registry.text() == "# TYPE x counter\nx 1\n")
    }

    @Test func whatIsDestroyedIsNotShown() {
        let registry = PrometheusRegistry()
        let (one, two) = (
            Counter(label: "x", dimensions: [("n", "1")], factory: registry),
            Counter(label: "x", dimensions: [("n", "2")], factory: registry)
        )
        one.destroy()
        #expect(registry.text() == "# TYPE x counter\nx{n=\"2\"} 0\n")
        two.destroy()
        #expect(registry.text() == "")
    }

    @Test func collectorsRunBeforeEachScrape() {
        let registry = PrometheusRegistry()
        let scrapes = Counter(label: "scrapes_total", factory: registry)
        registry.collect { scrapes.increment() }
        #expect(registry.text().contains("scrapes_total 1\n"))
        #expect(registry.text().contains("scrapes_total 2\n"))
    }

    @Test func countsFromManyThreadsAreWhole() async {
        let registry = PrometheusRegistry()
        await withTaskGroup(of: Void.self) { group in
            for task in 0..<8 {
                group.addTask {
                    for _ in 0..<500 {
                        Counter(label: "c", dimensions: [("half", "\(task % 2)")], factory: registry).increment()
                        Timer(label: "t", factory: registry).recordNanoseconds(1_000_000)
                    }
                }
            }
        }
        let text = registry.text()
        #expect(text.contains("c{half=\"0\"} 2000\n") && text.contains("c{half=\"1\"} 2000\n") && text.contains("t_count 4000\n"))
    }

    @Test func anActIsCountedByItsResultAndTimed() async throws {
        let registry = PrometheusRegistry()
        struct Failed: Error {}
        #expect(try await measured("act", factory: registry) { 5 } == 5)
        await #expect(throws: Failed.self) { try await measured("act", factory: registry) { throw Failed() } }
        let samples = try Exposition(registry.text()).samples
        for result in ["ok", "failed"] {
            #expect(samples.contains(.init(name: "act_total", labels: ["result": result], value: 1)))
        }
        #expect(samples.contains(.init(name: "act_duration_seconds_count", labels: [:], value: 2)))
    }
}
