import CRI
import Errors
import Foundation
import GRPC
import Glibc
import Linux
import Support
import Testing

/// A node whose root directory is a small file system of its own, which its pods fill.
@Suite(.enabled(if: systemTestsEnabled), .timeLimit(.minutes(20)), .serialized)
struct FullDiskTests {
    /// Runs `body` on a node with a root of `size` MiB.
    private static func withNode(_ name: String, size: Int, _ body: (Node) async throws -> Void) async throws {
        let node = try Node(name, options: Node.Options(scratch: 1))
        try FileManager.default.createDirectory(atPath: node.root, withIntermediateDirectories: true)
        try await Spawn("/bin/mount", ["-t", "tmpfs", "-o", "size=\(size)m", "tmpfs", node.root]).check()
        let result: Result<Void, any Error>
        do {
            try await node.start()
            try await node.loadSampleImage()
            result = .success(try await body(node))
        } catch {
            result = .failure(error)
        }
        await node.destroy()
        _ = try? await Spawn("/bin/umount", ["--lazy", node.root]).run()
        try? FileManager.default.removeItem(atPath: node.root)
        try result.get()
    }

    /// Takes all room but so many MiB.
    private static func fill(_ node: Node, but left: UInt64) throws {
        let descriptor = open(ballast(node), O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(descriptor) }
        var status = stat()
        try #require(fstat(descriptor, &status) == 0)
        let available = try FileSystemSpace(of: node.root).available
        let size = Int64(status.st_size) + Int64(available) - Int64(left << 20)
        try #require(posix_fallocate(descriptor, 0, off_t(size)) == 0)
    }

    private static func makeRoom(_ node: Node) { unlink(ballast(node)) }
    private static func ballast(_ node: Node) -> String { node.root + "/ballast" }

    private static func halted(_ node: Node, _ pod: String) async throws -> String {
        try await node.details(of: pod)["halted"]?.string ?? ""
    }

    private static func expectRefusal(_ node: Node, _ container: String) async {
        let began = ContinuousClock.now
        let exec = await refusal { _ = try await node.exec(container, ["/bin/true"]) }
        #expect(exec?.code == .unavailable && exec?.message.contains("is full") == true, "\(String(describing: exec))")
        #expect(.now - began < .seconds(2))
    }

    @Test func aMachineStopsOnAFullDiskGoesOnWhenThereIsRoomAlsoAfterARestartAndLosesNothing() async throws {
        try await Self.withNode("full", size: 1500) { node in
            let pod = try await node.runPod("full")
            let neighbour = try await node.runPod("neighbour")
            let sleeper = try await node.runContainer(in: neighbour, "sleeper", ["/bin/sleep", "6000"])
            try Self.fill(node, but: 150)
            let script = "dd if=/dev/urandom of=/data bs=1M count=300 2>/dev/null; echo wrote $?; sync; sha256sum < /data; sleep 6000"
            let writer = try await node.runContainer(in: pod, "writer", ["/bin/sh", "-c", script])
            try await eventually("the machine is stopped; daemon: \(node.tail(node.daemonLog))", within: .seconds(180)) {
                try await Self.halted(node, pod).contains("is full")
            }
            // A kubelet is told nothing that would make it replace the pod, or the node's pods.
            #expect(try await node.podStatus(pod).status.state == .sandboxReady)
            let conditions = try await node.cri.call(RuntimeRPC.status, .init()).status.conditions
            #expect(conditions.first { $0.type == "RuntimeReady" }?.status == true)
            let running = try #require(conditions.first { $0.type == "PodsRunning" })
            #expect(!running.status && running.message.contains("test/full") && running.message.contains("is full"), "\(running)")
            await Self.expectRefusal(node, writer)
            #expect(try await node.shell(sleeper, "echo here") == "here\n")

            await node.kill()
            try await node.launch()
            try await eventually("the stopped machine is found again") { try await Self.halted(node, pod).contains("is full") }
            await Self.expectRefusal(node, writer)
            // A busy node takes so long for it that the neighbour's file system may have found the disk full as well.
            try await eventually("the neighbour is found again") {
                if (try? await node.shell(sleeper, "echo here")) == "here\n" { return true }
                return try await Self.halted(node, neighbour).contains("is full")
            }

            Self.makeRoom(node)
            try await eventually("the machine goes on; daemon: \(node.tail(node.daemonLog))", within: .seconds(30)) {
                try await Self.halted(node, pod).isEmpty
            }
            try await node.waitForLog("writer", line: "wrote 0")
            try await node.waitForLog("writer", lines: 2)
            let sum = try #require(try node.log("writer").last).replacing("stdout F ", with: "")
            #expect(sum.hasSuffix("  -"))
            #expect(try await node.shell(writer, "sha256sum < /data") == sum + "\n")
            let after = try await node.cri.call(RuntimeRPC.status, .init()).status.conditions
            for condition in after { #expect(condition.status, "\(condition)") }
            #expect(try await node.shell(sleeper, "echo here") == "here\n")
        }
    }

    @Test func aVMPodStopsOnAFullDiskAndGoesOnWhenThereIsRoom() async throws {
        try await Self.withNode("fullvm", size: 900) { node in
            try await node.loadSmallVM()
            let pod = try await node.runVMPod("full") { $0.annotations = ["swiftlet/data-volumes": "[{name: extra, size: 400M}]"] }
            let container = try await node.startVM(in: pod, "full")
            try await node.waitForBoot("full")
            try Self.fill(node, but: 150)
            let write = "dd if=/dev/urandom of=$(readlink -f /dev/disk/by-id/*extra) bs=1M count=300 conv=fsync 2>/dev/null"
            _ = try await node.shell(container, "(\(write); echo wrote $? >/dev/ttyS0) </dev/null >/dev/null 2>&1 &")
            try await eventually("the machine is stopped; daemon: \(node.tail(node.daemonLog))", within: .seconds(120)) {
                try await Self.halted(node, pod).contains("is full")
            }
            #expect(try await node.podStatus(pod).status.state == .sandboxReady)
            await Self.expectRefusal(node, container)
            await node.kill()
            try await node.launch()
            try await eventually("the stopped machine is found again") { try await Self.halted(node, pod).contains("is full") }
            Self.makeRoom(node)
            try await eventually("the guest goes on and has written all; daemon: \(node.tail(node.daemonLog))", within: .seconds(120)) {
                try node.logText("full.log").contains("wrote 0")
            }
            #expect(try await Self.halted(node, pod).isEmpty)
            try await node.removePod(pod)
        }
    }

    @Test func podsAreStoppedAndRemovedOnAFullDiskAndNewOnesRefusedForIt() async throws {
        try await Self.withNode("nospace", size: 700) { node in
            let before = try await Footprint.now(node)
            let idle = try await node.runPod("idle")
            _ = try await node.runContainer(in: idle, "sleeper", ["/bin/sleep", "6000"])
            let full = try await node.runPod("full")
            try Self.fill(node, but: 100)
            let script = "dd if=/dev/urandom of=/data bs=1M count=300; sleep 6000"
            _ = try await node.runContainer(in: full, "writer", ["/bin/sh", "-c", script])
            try await eventually("the machine is stopped", within: .seconds(180)) { try await Self.halted(node, full).contains("is full") }
            try Self.fill(node, but: 0)

            let refused = await refusal { _ = try await node.runPod("late") }
            #expect(refused?.code == .resourceExhausted && refused?.message.contains("is full") == true, "\(String(describing: refused))")
            for pod in [idle, full] {
                let began = ContinuousClock.now
                try await node.stopPod(pod)
                try await node.removePod(pod)
                #expect(.now - began < .seconds(15))
                try Self.fill(node, but: 0)
            }
            #expect(try await node.cri.call(RuntimeRPC.listPodSandbox, .init()).items.isEmpty)
            Self.makeRoom(node)
            try await before.expectNothingAdded(node)
            try await eventually("new pods are taken again") {
                try await node.cri.call(RuntimeRPC.status, .init()).status.conditions.allSatisfy { $0.status }
            }
            let late = try await node.runPod("late")
            try await node.removePod(late)
        }
    }
}
