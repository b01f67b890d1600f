import CRI
import Errors
import Testing

@testable import swiftlet

private let uid = "3f9a2b00-0000-4000-8000-000000000000"

private func plan(_ wishes: RunPlan.Wishes, inherited: [String: String] = [:]) throws -> RunPlan {
    try RunPlan(wishes, uid: uid, inherited: inherited)
}

@Suite struct RunPlanTests {
    @Test(arguments: [
        ("docker.io/library/busybox:1.36", "busybox-3f9a2"), ("localhost:5000/My_App@sha256:00", "my-app-3f9a2"), ("::", "pod-3f9a2"),
    ])
    func aPodIsNamedAfterItsImage(_ image: String, _ name: String) throws {
        #expect(try plan(.init(image: image)).name == name)
    }

    @Test(arguments: ["", "A", "-a", "a-", "a/b", "../x", "a_b", "ä", String(repeating: "a", count: 64)])
    func aNameThatIsNoHostNameIsRefused(_ name: String) {
        #expect(throws: SwiftletError.self) { try plan(.init(image: "x", name: name)) }
    }

    @Test func thePodAndItsContainerAreAsAskedFor() throws {
        let plan = try plan(
            .init(
                image: "busybox", command: ["sh", "-c", "id"], name: "web", environment: ["A=1=2", "HOME", "GONE"], memory: 1 << 28,
                cpus: 1.5,
                workingDirectory: "/srv", user: "1000:50"), inherited: ["HOME": "/root"])
        #expect(plan.pod.metadata.namespace == "swiftlet")
        #expect(plan.pod.metadata.uid == uid)
        #expect(plan.pod.linux.resources.memoryLimitInBytes == 1 << 28)
        #expect(plan.pod.linux.resources.cpuQuota == 150_000)
        let container = plan.container
        #expect(container.args == ["sh", "-c", "id"])
        #expect(container.command.isEmpty)
        #expect(container.logPath == "web_0.log")
        #expect(container.workingDir == "/srv")
        #expect(container.envs.map { "\($0.key)=\(String(decoding: $0.value, as: UTF8.self))" } == ["A=1=2", "HOME=/root"])
        #expect(container.linux.resources == plan.pod.linux.resources)
        #expect(container.linux.securityContext.runAsUser.value == 1000)
        #expect(container.linux.securityContext.runAsGroup.value == 50)
        #expect(container.linux.securityContext.runAsUsername.isEmpty)
    }

    @Test func pathsAreMaskedAsAKubeletDoesByDefault() throws {
        for user in [nil, "1000"] {
            let context = try plan(.init(image: "x", user: user)).container.linux.securityContext
            #expect(context.maskedPaths.contains("/proc/kcore") && context.readonlyPaths.contains("/proc/sys"))
        }
    }

    @Test func aUserMayBeNamed() throws {
        let context = try plan(.init(image: "x", user: "nobody")).container.linux.securityContext
        #expect(context.runAsUsername == "nobody")
        #expect(!context.hasRunAsUser)
    }

    @Test(arguments: ["", ":1", "1:", "a:b", "1:2:3"])
    func aMalformedUserIsRefused(_ user: String) {
        #expect(throws: SwiftletError.self) { try plan(.init(image: "x", user: user)) }
    }

    @Test func withoutLimitsNoneAreAskedFor() throws {
        let plan = try plan(.init(image: "x"))
        #expect(!plan.pod.linux.hasResources)
        #expect(!plan.container.linux.hasResources)
    }
}

@Suite struct LogDirectoryTests {
    @Test func aDirectoryIsMadeFoundAgainAndRemovedWithItsFiles() async throws {
        try await withTemporaryDirectory { base in
            let made = try LogDirectory(creatingFor: "web", uid: uid, below: ["/nonexistent/x", base])
            #expect(made.path == "\(base)/web_\(uid)")
            var pod = CRIPodSandboxStatus.with {
                $0.metadata.name = "web"
                $0.metadata.uid = uid
                $0.annotations = [LogDirectory.annotation: made.path]
            }
            #expect(LogDirectory(of: pod, below: [base]) == made)
            pod.annotations = [LogDirectory.annotation: "/etc"]
            #expect(LogDirectory(of: pod, below: [base]) == nil)
            made.remove()
            #expect(throws: SwiftletError.self) { try LogDirectory(creatingFor: "web", uid: uid, below: ["\(base)/a/b"]) }
        }
    }
}
