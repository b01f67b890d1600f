import Foundation
import Linux
import Support
import Testing

/// The operator's command against a real daemon.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("cli"))
struct CommandTests {
    private func swiftlet(_ arguments: String...) async throws -> Spawn.Result {
        let node = try node()
        var environment = ProcessInfo.processInfo.environment
        environment["SWIFTLET_ENDPOINT"] = node.endpoint
        environment["SWIFTLET_LOGS"] = node.logs
        return try await Spawn(
            node.environment.build + "/swiftlet", arguments, environment: environment, deadline: .seconds(120)
        ).run()
    }

    @Test func runShowsOutputAndEndsWithTheExitCode() async throws {
        let node = try node()
        let before = try await Footprint.now(node)
        let result = try await swiftlet(
            "run", "-e", "WHO=you", Node.image, "--", "/bin/sh", "-c", "echo hello $WHO; echo careful >&2; exit 3")
        #expect(result.status == 3)
        #expect(result.outputText == "hello you\n")
        #expect(result.errorText.contains("careful\n") && result.errorText.contains("booting"))
        try await before.expectNothingAdded(node)
    }

    @Test func aDetachedPodIsListedEnteredAndRemoved() async throws {
        let name = try await swiftlet("run", "-d", "-q", "--name", "box", Node.image, "--", "/bin/sh", "-c", "echo up; sleep 600")
        #expect(name.status == 0 && name.outputText == "box\n", "\(name.errorText)")
        let listing = try await swiftlet("ps")
        #expect(listing.outputText.contains("box"))
        let exec = try await swiftlet("exec", "box", "--", "/bin/sh", "-c", "hostname; exit 4")
        #expect(exec.status == 4 && exec.outputText == "box\n")
        let logs = try await swiftlet("logs", "box")
        #expect(logs.outputText == "up\n")
        let last = try await swiftlet("logs", "--tail", "1", "--since", "1h", "-t", "box")
        #expect(last.outputText.wholeMatch(of: /\d{4}-\d\d-\d\dT\S+Z up\n/) != nil, "\(last.outputText)")
        let refused = try await swiftlet("image", "pull", "127.0.0.1:1/none:1")
        #expect(refused.status == 1 && refused.errorText.contains("RegistryUnavailable"), "\(refused.errorText)")
        let removed = try await swiftlet("rm", "-f", "box")
        #expect(removed.status == 0, "\(removed.errorText)")
        let empty = try await swiftlet("ps", "-a", "-o", "json")
        #expect(!empty.outputText.contains("box"))
        let missing = try await swiftlet("logs", "box")
        #expect(missing.status == 1 && missing.errorText.contains("box"))
    }

    /// A privileged container has the guest's devices, the serial port among them.
    @Test func theConsoleIsPrintedAndFollowedUntilThePodStops() async throws {
        let node = try node()
        let pod = try await node.runPod("spoken")
        async let followed = swiftlet("console", "--follow", pod)
        let container = try await node.runContainer(
            in: pod, "speaker", ["/bin/sh", "-c", "echo the guest speaks >/dev/ttyS0"]
        ) { $0.linux.securityContext.privileged = true }
        #expect(try await node.exit(of: container).exitCode == 0)
        var console = ""
        try await eventually("the guest's words come") {
            console = try await swiftlet("console", pod).outputText
            return console.contains("the guest speaks")
        }
        try await node.stopPod(pod)
        let all = try await followed
        #expect(all.status == 0 && all.outputText.hasPrefix(console), "\(all)")
        let stopped = try await swiftlet("console", pod)
        #expect(stopped.status == 1 && stopped.errorText.contains("has stopped"), "\(stopped.errorText)")
        try await node.removePod(pod)
    }

    @Test func doctorFindsTheNodeFit() async throws {
        struct Check: Decodable {
            var check: String
            var found: String
            var verdict: String
        }
        let result = try await swiftlet("doctor", "-o", "json", "--cni-conf-dir", try node().root + "/net.d")
        let checks = try JSONDecoder().decode([Check].self, from: Data(result.output))
        let failed = checks.filter { $0.verdict == "fail" }.map { "\($0.check): \($0.found)" }
        #expect(failed.isEmpty && checks.count > 5, "\(failed)")
        #expect(result.status == 0)
    }
}
