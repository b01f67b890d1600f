import Errors
import Foundation
import Testing

@testable import Pods

/// The real `microvm` handler with a fault at each point, on a hypervisor without machines.
@Suite(.timeLimit(.minutes(10))) struct FailureMatrixTests {
    /// Cases at once: most of their time is waiting.
    private static let width = 24

    private struct Outcome: Sendable {
        let item: FailureCase
        let answer: String?
    }

    /// Writes docs/failure-modes.md when WRITE_FAILURE_MODES is set; else that file says what has run.
    @Test func aStartOrAStopThatFailsAtAnyStepLeavesNothing() async throws {
        let ground = try await MatrixGround()
        defer { ground.remove() }
        let points = try await FailureCase.points(on: ground)
        // What is released is the pod's then, whatever its machine was.
        let claim = try await FailureCase.points(on: ground, isPooled: true).filter { !$0.contains(" release ") }
        let cases = [(points, false), (claim, true)].flatMap { points, isPooled in
            points.flatMap { point in
                Fault.allCases.flatMap { fault in
                    Aftermath.allCases.map { FailureCase(point: point, fault: fault, aftermath: $0, isPooled: isPooled) }
                }
            }
        }
        let outcomes = await run(cases, on: ground)
        let pool = try await PoolFailureCase.points(on: ground)
        let poolOutcomes = await run(pool.flatMap { point in Fault.allCases.map { PoolFailureCase(point: point, fault: $0) } }, on: ground)
        #expect(try MatrixNode.taps(on: ground).isEmpty)
        let table = Self.document(points, claim, outcomes) + Self.document(pool, poolOutcomes)
        let file = URL(filePath: #filePath).appending(path: "../../../../docs/failure-modes.md").standardized
        if ProcessInfo.processInfo.environment["WRITE_FAILURE_MODES"] != nil {
            try Data(table.utf8).write(to: file)
        }
        #expect(try String(contentsOf: file, encoding: .utf8) == table, "set WRITE_FAILURE_MODES=1 to write it anew")
    }

    private func run(_ cases: [FailureCase], on ground: MatrixGround) async -> [Outcome] {
        await withTaskGroup(of: Outcome.self) { group in
            var outcomes: [Outcome] = []
            for (number, item) in cases.enumerated() {
                if number >= Self.width, let outcome = await group.next() { outcomes.append(outcome) }
                group.addTask {
                    do {
                        return Outcome(item: item, answer: try await item.run(on: ground, number: number + 1))
                    } catch {
                        Issue.record("\(item): \(error)")
                        return Outcome(item: item, answer: nil)
                    }
                }
            }
            for await outcome in group { outcomes.append(outcome) }
            return outcomes
        }
    }

    /// What came of each case by point and fault.
    private func run(_ cases: [PoolFailureCase], on ground: MatrixGround) async -> [String: [Fault: String]] {
        await withTaskGroup(of: (PoolFailureCase, String).self) { group in
            for (number, item) in cases.enumerated() {
                group.addTask {
                    do {
                        return (item, try await item.run(on: ground, number: number + 1))
                    } catch {
                        Issue.record("\(item): \(error)")
                        return (item, "failed")
                    }
                }
            }
            return await group.reduce(into: [:]) { $0[$1.0.point, default: [:]][$1.0.fault] = $1.1 }
        }
    }

    private static func document(_ points: [String], _ outcomes: [String: [Fault: String]]) -> String {
        let head = """

            ## While machines are made for the pool and thrown away

            No pod starts then: the same faults while a machine is made, and at the daemon's end, which releases it. What fails is tried again; a
            start meanwhile boots a machine of its own, but where users are chosen, one at a time. The daemon after a kill fills its pool again.
            Nothing is left once it has ended.

            | point | error | hang | kill |
            |---|---|---|---|

            """
        return points.sorted { order($0) < order($1) }.reduce(into: head) { text, point in
            text += "| \(point) | \(Fault.allCases.map { outcomes[point]?[$0] ?? "failed" }.joined(separator: " | ")) |\n"
        }
    }

    private static func document(_ points: [String], _ claim: [String], _ outcomes: [Outcome]) -> String {
        var text = """
            # Failure modes

            Written by the test run (`WRITE_FAILURE_MODES=1`, `FailureMatrixTests`), which fails when this table differs from what ran: the
            real `microvm` handler, with a fault at each point of a pod's start and stop. An *error* is thrown there, a *hang* blocks and
            ignores cancellation, a *kill* ends the daemon: all that is in memory is gone, and a new daemon recovers from the same database.
            The columns say what the call (RunPodSandbox, or StopPodSandbox for releases) answers. After each fault comes StopPodSandbox,
            RemovePodSandbox, a retry with a new pod, or a restart of the daemon, and then nothing is left: no ledger entry, machine,
            network, tap, process, mount or file.

            | point | error | hang | kill | nothing is left after |
            |---|---|---|---|---|

            """
        text += rows(points, outcomes.filter { !$0.item.isPooled })
        text += """

            ## With a machine of the pool

            The same for a start that finds a machine waiting. An error that is the machine's costs the start a boot: it succeeds. The daemon after
            a kill has no pool.

            | point | error | hang | kill | nothing is left after |
            |---|---|---|---|---|

            """
        return text + rows(claim, outcomes.filter(\.item.isPooled))
    }

    private static func rows(_ points: [String], _ outcomes: [Outcome]) -> String {
        var text = ""
        for point in points.sorted(by: { order($0) < order($1) }) {
            let here = outcomes.filter { $0.item.point == point }
            let answers = Fault.allCases.map { fault in
                Set(here.filter { $0.item.fault == fault }.map { $0.answer ?? "failed" }.filter { !$0.isEmpty }).sorted().joined(
                    separator: ", ")
            }
            let clean = Aftermath.allCases.filter { aftermath in
                here.allSatisfy { $0.item.aftermath != aftermath || $0.answer != nil }
            }.map(\.rawValue)
            text += "| \(point) | \(answers[0]) | \(answers[1]) | recovered | \(clean.joined(separator: ", ")) |\n"
        }
        return text
    }

    /// Acquisitions, steps, releases; each by name, since some of them run side by side.
    private static func order(_ point: String) -> String {
        let words = point.split(separator: " ")
        let group = point.contains(" acquire ") ? "0" : point.contains(" release ") ? "2" : "1"
        let rest = words.count > 2 ? words[2...].joined(separator: " ") : point
        return "\(group) \(rest) \(words[0] == "before" ? 0 : 1) \(point)"
    }
}
