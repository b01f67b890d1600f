import CRI
import Foundation
import GRPC
import Glibc
import Testing

/// How containers start, end and come back, and what becomes of requests that are repeated. One pod for all of it.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized, .node("life", pod: podOfARetriedRequest))
struct LifecycleTests {
    // MARK: Retries

    /// The disks of an image's layers go with its last container, and come back with the next one.
    @Test func disksOfLayersGoWithTheirLastContainer() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let machine = try await node.machine(of: pod)
        func layers() throws -> Int {
            let descriptors = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(machine)/fd")
            return descriptors.count {
                ((try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(machine)/fd/\($0)")) ?? "").contains("/layers/")
            }
        }
        for round in 1...2 {
            let first = try await node.runContainer(in: pod, "layers-\(round)-a", ["/bin/echo", "first"])
            let second = try await node.runContainer(in: pod, "layers-\(round)-b", ["/bin/sh", "-c", "sleep 1000"])
            #expect(try await node.exit(of: first).exitCode == 0)
            let used = try layers()
            #expect(used > 0)
            try await node.removeContainer(first)
            #expect(try layers() == used)
            #expect(try await node.shell(second, "cat /bin/sh > /dev/null && echo whole") == "whole\n")
            try await node.removeContainer(second)
            #expect(try layers() == 0)
        }
    }

    /// The guest stands still while the client gives up and asks again.
    @Test func aRetriedCreationMakesOneContainer() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let machine = try await node.machine(of: pod)
        let request = CRICreateContainerRequest.with {
            $0.podSandboxID = pod
            $0.config.metadata.name = "retried"
            $0.config.image.image = Node.image
            $0.config.command = ["/bin/echo", "once"]
            $0.config.logPath = "retried.log"
        }
        try #require(kill(machine, SIGSTOP) == 0)
        defer { kill(machine, SIGCONT) }
        let cri = try await node.cri
        let first = await refusal { _ = try await cri.call(RuntimeRPC.createContainer, request, timeout: .seconds(1)) }
        #expect(first?.code == .deadlineExceeded)
        async let second = cri.call(RuntimeRPC.createContainer, request).containerID
        async let third = cri.call(RuntimeRPC.listContainers, .init()).containers
        #expect(try await !third.contains { $0.metadata.name == "retried" }, "what is not created yet is not listed")
        kill(machine, SIGCONT)
        let container = try await second
        let listed = try await cri.call(RuntimeRPC.listContainers, .init()).containers.filter { $0.metadata.name == "retried" }
        #expect(listed.map(\.id) == [container])
        try await node.start(container)
        #expect(try await node.exit(of: container).exitCode == 0)
        #expect(try node.log("retried") == ["stdout F once"])
    }

    @Test func idsOfAnyFormThatNobodyHasAreStoppedAndRemoved() async throws {
        let node = try node()
        let malformed = ["", "../x", "FEED", "a\u{0}", "3f0c9a3e-6d0e-4b5a-9d0a-1f6c6c1f2b7e", String(repeating: "f", count: 10_000)]
        for id in ["feedfeed", "feedfeed"] + malformed {
            try await node.stop(id, timeout: 5)
            try await node.removeContainer(id)
            try await node.stopPod(id)
            try await node.removePod(id)
        }
        for id in malformed { #expect(await refusal { try await node.start(id) }?.code == .invalidArgument) }
        #expect(try await node.podStatus(try sharedPod()).status.state == .sandboxReady)
        #expect(await refusal { try await node.start("feedfeed") }?.code == .notFound)
        #expect(await refusal { _ = try await node.status(of: "feedfeed") }?.code == .notFound)
        #expect(await refusal { _ = try await node.exec("feedfeed", ["/bin/true"]) }?.code == .notFound)
    }

    // MARK: Ends

    @Test func eachEndHasItsCodeAndReason() async throws {
        let (node, pod) = (try node(), try sharedPod())
        for (name, script, code, reason) in [
            ("completed", "exit 0", 0, "Completed"), ("failed", "exit 3", 3, "Error"), ("signalled", "kill -9 $$", 137, "Error"),
        ] {
            let container = try await node.runContainer(in: pod, name, ["/bin/sh", "-c", script])
            let status = try await node.exit(of: container)
            #expect(status.exitCode == code && status.reason == reason && status.message.isEmpty, "\(status)")
            #expect(status.createdAt < status.startedAt && status.startedAt <= status.finishedAt)
            let again = await refusal { try await node.start(container) }
            #expect(again?.code == .failedPrecondition && again?.message.contains("exited") == true)
        }
    }

    /// A kubelet restarts a container as a new one of the same name.
    @Test func aContainerReturnsAsTheNextAttempt() async throws {
        let (node, pod) = (try node(), try sharedPod())
        // A kubelet makes the directory.
        try FileManager.default.createDirectory(atPath: node.logs + "/again", withIntermediateDirectories: true)
        var ids: [String] = []
        for attempt: UInt32 in 0...2 {
            let id = try await node.runContainer(in: pod, "again", ["/bin/sh", "-c", "echo attempt \(attempt); exit 1"]) {
                $0.metadata.attempt = attempt
                $0.logPath = "again/\(attempt).log"
            }
            #expect(try await node.exit(of: id).exitCode == 1)
            #expect(try node.log("again/\(attempt)") == ["stdout F attempt \(attempt)"])
            #expect(try await node.status(of: id).logPath == "\(node.logs)/again/\(attempt).log")
            ids.append(id)
        }
        let taken = await refusal { _ = try await node.createContainer(in: pod, "again", ["/bin/true"]) { $0.metadata.attempt = 1 } }
        #expect(taken?.code == .alreadyExists && taken?.message.contains(ids[1]) == true)
        try await node.removeContainer(ids[0])
        let left = try await node.cri.call(RuntimeRPC.listContainers, .init()).containers.filter { $0.metadata.name == "again" }
        #expect(Dictionary(uniqueKeysWithValues: left.map { ($0.id, $0.metadata.attempt) }) == [ids[1]: 1, ids[2]: 2])
    }

    @Test func outputThatNobodyKeepsHoldsNobodyUp() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let container = try await node.runContainer(in: pod, "mute", ["/bin/sh", "-c", "dd if=/dev/zero bs=1M count=4"]) { $0.logPath = "" }
        let status = try await node.exit(of: container)
        #expect(status.exitCode == 0 && status.logPath.isEmpty, "output that nobody keeps holds nobody up")
    }

    // MARK: Input and signals

    @Test func inputIsOpenOnlyWhenItIsAskedFor() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let script = ["/bin/sh", "-c", "echo waiting; cat /dev/stdin; echo ended"]
        let closed = try await node.runContainer(in: pod, "closed", script)
        #expect(try await node.exit(of: closed).exitCode == 0)
        #expect(try node.log("closed") == ["stdout F waiting", "stdout F ended"])
        let open = try await node.runContainer(in: pod, "open", script) { ($0.stdin, $0.stdinOnce) = (true, true) }
        try await node.waitForLog("open", line: "waiting")
        // It reads, which in a pipe that somebody holds open takes until somebody writes.
        let reads = "until ps -o args | grep -q '^cat /dev/stdin'; do :; done; sleep 0.3; ps -o args | grep -c '^cat /dev/stdin'"
        #expect(try await node.shell(open, reads) == "1\n")
        try await node.stop(open, timeout: 0)
        #expect(try node.log("open") == ["stdout F waiting"])
    }

    @Test func aTerminalIsAllThreeStreams() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let script = "tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all; echo error >&2; echo $TERM"
        let container = try await node.runContainer(in: pod, "terminal", ["/bin/sh", "-c", script]) { ($0.tty, $0.stdin) = (true, true) }
        #expect(try await node.exit(of: container).exitCode == 0)
        // A terminal ends lines with a carriage return.
        let log = try String(contentsOfFile: node.logs + "/terminal.log", encoding: .utf8).split(separator: "\r\n")
        let lines = log.map { $0.drop { $0 != " " }.dropFirst() }
        #expect(lines.first?.hasPrefix("stdout F /dev/") == true, "\(log)")
        #expect(lines.dropFirst() == ["stdout F all", "stdout F error", "stdout F xterm"], "\(log)")
    }

    @Test func aStopSendsTheContainersOwnSignal() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let deaf = "trap 'echo told; exit 6' USR1; trap '' TERM; echo up; while :; do sleep 0.1; done"
        let told = try await node.runContainer(in: pod, "told", ["/bin/sh", "-c", deaf]) { $0.stopSignal = .sigusr1 }
        #expect(try await node.status(of: told).stopSignal == .sigusr1)
        try await node.waitForLog("told", line: "up")
        try await node.stop(told, timeout: 60)
        try await node.stop(told, timeout: 60)
        let status = try await node.status(of: told)
        #expect(status.exitCode == 6 && status.reason == "Error", "\(status)")
        #expect(try node.log("told") == ["stdout F up", "stdout F told"])
        let plain = try await node.runContainer(in: pod, "plain", ["/bin/sleep", "6000"])
        #expect(try await node.status(of: plain).stopSignal == .sigterm)
        try await node.stop(plain, timeout: 60)
        #expect(try await node.status(of: plain).exitCode == 143)
    }

    /// Grace periods and time-outs are numbers that a tenant chooses.
    @Test func timeoutsOfAnyLengthAreTaken() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let container = try await node.runContainer(in: pod, "patient", ["/bin/sleep", "6000"])
        let result = try await node.exec(container, ["/bin/echo", "in time"], timeout: .max)
        #expect(String(decoding: result.stdout, as: UTF8.self) == "in time\n")
        let negative = await refusal { _ = try await node.exec(container, ["/bin/true"], timeout: -1) }
        #expect(negative?.code == .invalidArgument && negative?.message.contains("timeout") == true)
        try await node.stop(container, timeout: .max)
        #expect(try await node.status(of: container).exitCode == 143)
        let next = try await node.runContainer(in: pod, "impatient", ["/bin/sleep", "6000"])
        try await node.stop(next, timeout: .min)
        #expect(try await node.status(of: next).exitCode == 137, "no time at all means SIGKILL")
    }

    // MARK: Lists

    @Test func bothVersionsOfTheInterfaceAnswerAlike() async throws {
        let (node, pod) = (try node(), try sharedPod())
        // It lists and asks about one.
        let container = try await node.runContainer(in: pod, "compared", ["/bin/true"])
        _ = try await node.exit(of: container)
        try await VersionComparison(node: node, pod: pod).check()
    }

    @Test func listsAreFiltered() async throws {
        let (node, pod) = (try node(), try sharedPod())
        let cri = try await node.cri
        func pods(_ change: (inout CRIPodSandboxFilter) -> Void) async throws -> [String] {
            let filter = CRIPodSandboxFilter.with(change)
            return try await cri.call(RuntimeRPC.listPodSandbox, .with { $0.filter = filter }).items.map(\.id)
        }
        #expect(try await pods { $0.id = String(pod.prefix(13)) } == [pod])
        #expect(try await pods { $0.state.state = .sandboxReady } == [pod])
        #expect(try await pods { $0.state.state = .sandboxNotready }.isEmpty)
        #expect(try await pods { $0.labelSelector = ["app": "life"] } == [pod])
        #expect(try await pods { ($0.labelSelector, $0.id) = (["app": "other"], pod) }.isEmpty)
        #expect(try await pods { $0.id = "feedfeed" }.isEmpty)
        let unknown = await refusal { _ = try await pods { $0.state.state = .UNRECOGNIZED(7) } }
        #expect(unknown?.code == .invalidArgument && unknown?.message.contains("filter.state 7") == true)
        let images = try await cri.call(ImageRPC.listImages, .with { $0.filter.image.image = Node.image }).images
        #expect(images.map(\.repoTags) == [[Node.image]])
        #expect(try await cri.call(ImageRPC.listImages, .with { $0.filter.image.image = "localhost/none:1" }).images.isEmpty)
    }
}

/// A client whose patience ends during the boot, and two that ask again.
@Sendable private func podOfARetriedRequest(_ node: Node) async throws -> String {
    let config = node.podConfig("life") { $0.labels = ["app": "life"] }
    let first = await refusal {
        _ = try await node.cri.call(RuntimeRPC.runPodSandbox, .with { $0.config = config }, timeout: .milliseconds(500))
    }
    #expect(first?.code == .deadlineExceeded)
    let cri = try await node.cri
    async let second = cri.call(RuntimeRPC.runPodSandbox, .with { $0.config = config }).podSandboxID
    async let third = cri.call(RuntimeRPC.runPodSandbox, .with { $0.config = config }).podSandboxID
    let ids = try await [second, third]
    #expect(ids[0] == ids[1])
    #expect(try await cri.call(RuntimeRPC.listPodSandbox, .init()).items.map(\.id) == [ids[0]])
    return ids[0]
}
