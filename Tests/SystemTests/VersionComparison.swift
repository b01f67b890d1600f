import CRI
import CRIClient
import Foundation
import GRPC
import SwiftProtobuf
import Testing

/// The same questions by `runtime.v1` and `runtime.v1alpha2`, and a container's whole life by the latter.
struct VersionComparison {
    let node: Node
    let pod: String

    func check() async throws {
        let (new, old) = (try await node.cri, try CRIConnection(endpoint: node.endpoint, version: .v1alpha2))
        try await compareAnswers(new, old)
        try await compareStreams(new, old)
        try await compareRefusals(new, old)
        try await live(old)
        await old.close()
    }

    /// - Parameter change: takes away what differs from one moment to the next.
    private func same<Request, Response: Equatable>(
        _ new: CRIConnection, _ old: CRIConnection, _ method: RPCDescriptor<Request, Response>, _ request: Request,
        _ change: (inout Response) -> Void = { _ in }
    ) async throws {
        var answers = [try await new.call(method, request), try await old.call(method, request)]
        for index in answers.indices { change(&answers[index]) }
        #expect(answers[0] == answers[1], "\(method.name)")
    }

    private func compareAnswers(_ new: CRIConnection, _ old: CRIConnection) async throws {
        let container = try #require(try await new.call(RuntimeRPC.listContainers, .init()).containers.first).id
        try await same(new, old, RuntimeRPC.version, .init())
        try await same(new, old, RuntimeRPC.status, .init())
        try await same(new, old, RuntimeRPC.runtimeConfig, .init())
        try await same(new, old, RuntimeRPC.listPodSandbox, .init())
        try await same(new, old, RuntimeRPC.podSandboxStatus, .with { $0.podSandboxID = pod }) { $0.timestamp = 0 }
        try await same(new, old, RuntimeRPC.listContainers, .init())
        try await same(new, old, RuntimeRPC.containerStatus, .with { ($0.containerID, $0.verbose) = (container, true) })
        try await same(new, old, RuntimeRPC.listMetricDescriptors, .init())
        try await same(new, old, ImageRPC.listImages, .init())
        try await same(new, old, ImageRPC.imageStatus, .with { ($0.image.image, $0.verbose) = (Node.image, true) })
        try await same(new, old, ImageRPC.imageFsInfo, .init()) {
            for index in $0.imageFilesystems.indices { $0.imageFilesystems[index].timestamp = 0 }
            for index in $0.containerFilesystems.indices { $0.containerFilesystems[index].timestamp = 0 }
        }
        // What is measured differs each time; whose it is does not.
        for connection in [new, old] {
            #expect(try await connection.call(RuntimeRPC.podSandboxStats, .with { $0.podSandboxID = pod }).stats.attributes.id == pod)
            #expect(try await connection.call(RuntimeRPC.listPodSandboxStats, .init()).stats.map(\.attributes.id) == [pod])
            #expect(try await connection.call(RuntimeRPC.listPodSandboxMetrics, .init()).podMetrics.map(\.podSandboxID) == [pod])
        }
    }

    private func compareStreams(_ new: CRIConnection, _ old: CRIConnection) async throws {
        try await sameStream(new, old, RuntimeRPC.streamPodSandboxes, .init())
        try await sameStream(new, old, RuntimeRPC.streamContainers, .init())
        try await sameStream(new, old, ImageRPC.streamImages, .init())
    }

    private func sameStream<Request, Response: Equatable>(
        _ new: CRIConnection, _ old: CRIConnection, _ method: RPCDescriptor<Request, Response>, _ request: Request
    ) async throws {
        var answers: [[Response]] = []
        for connection in [new, old] {
            var messages: [Response] = []
            for try await message in try connection.stream(method, request) { messages.append(message) }
            answers.append(messages)
        }
        #expect(answers[0] == answers[1] && !answers[0].isEmpty, "\(method.name)")
    }

    private func compareRefusals(_ new: CRIConnection, _ old: CRIConnection) async throws {
        try await sameRefusal(new, old, RuntimeRPC.runPodSandbox, .init(), .invalidArgument)
        try await sameRefusal(new, old, RuntimeRPC.podSandboxStatus, .with { $0.podSandboxID = "feedfeed" }, .notFound)
        try await sameRefusal(new, old, RuntimeRPC.createContainer, .with { $0.podSandboxID = pod }, .invalidArgument)
        try await sameRefusal(new, old, RuntimeRPC.startContainer, .with { $0.containerID = "feedfeed" }, .notFound)
        try await sameRefusal(new, old, RuntimeRPC.containerStats, .with { $0.containerID = "feedfeed" }, .notFound)
        try await sameRefusal(new, old, RuntimeRPC.updateContainerResources, .with { $0.containerID = pod }, .invalidArgument)
        try await sameRefusal(new, old, RuntimeRPC.attach, .init(), .invalidArgument)
        try await sameRefusal(new, old, ImageRPC.pullImage, .init(), .invalidArgument)
        try await sameRefusal(new, old, ImageRPC.pullImage, .with { $0.image.image = "UPPER/Case:tag:tag" }, .invalidArgument)
    }

    private func sameRefusal<Request, Response>(
        _ new: CRIConnection, _ old: CRIConnection, _ method: RPCDescriptor<Request, Response>, _ request: Request, _ code: GRPCStatus.Code
    ) async throws {
        var statuses: [GRPCStatus] = []
        for connection in [new, old] {
            let status = await #expect(throws: GRPCStatus.self, "\(method.name)") { _ = try await connection.call(method, request) }
            if let status { statuses.append(status) }
        }
        #expect(statuses.count == 2 && statuses.allSatisfy { $0.code == code }, "\(method.name): \(statuses)")
        #expect(statuses.first?.message == statuses.last?.message)
    }

    private func live(_ old: CRIConnection) async throws {
        let id = try await old.call(
            RuntimeRPC.createContainer,
            .with {
                $0.podSandboxID = pod
                $0.config.metadata.name = "alpha"
                $0.config.image.image = Node.image
                $0.config.command = ["/bin/sleep", "6000"]
                $0.config.logPath = "alpha.log"
            }
        ).containerID
        _ = try await old.call(RuntimeRPC.startContainer, .with { $0.containerID = id })
        _ = try await old.call(
            RuntimeRPC.updateContainerResources,
            .with {
                $0.containerID = id
                $0.linux.cpuShares = 2048
            })
        let exec = try await old.call(
            RuntimeRPC.execSync, .with { ($0.containerID, $0.cmd, $0.timeout) = (id, ["/bin/cat", "/sys/fs/cgroup/cpu.weight"], 60) })
        #expect(String(decoding: exec.stdout, as: UTF8.self) == "79\n")
        #expect(try await old.call(RuntimeRPC.containerStats, .with { $0.containerID = id }).stats.attributes.metadata.name == "alpha")
        _ = try await old.call(RuntimeRPC.reopenContainerLog, .with { $0.containerID = id })
        _ = try await old.call(RuntimeRPC.stopContainer, .with { ($0.containerID, $0.timeout) = (id, 30) })
        #expect(try await node.status(of: id).exitCode == 143)
        _ = try await old.call(RuntimeRPC.removeContainer, .with { $0.containerID = id })
        #expect(try await !node.cri.call(RuntimeRPC.listContainers, .init()).containers.contains { $0.id == id })
    }
}
