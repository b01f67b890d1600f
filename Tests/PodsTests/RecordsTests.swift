import Errors
import Foundation
import GRDB
import PodNetwork
import State
import Testing
import Volumes

@testable import MicroVMRuntime
@testable import PodMachine
@testable import Pods
@testable import Runtime

/// Records of every released version decode for ever. `Golden/VERSION` holds what that version wrote; a new version adds a folder and
/// changes none.
@Suite(.timeLimit(.minutes(1))) struct GoldenRecordTests {
    private static let folder = "0.1.0"

    private static func golden(_ name: String) throws -> Data {
        let url = try #require(Bundle.module.url(forResource: name, withExtension: "json", subdirectory: "Golden/\(folder)"))
        return try Data(contentsOf: url)
    }

    private static let network = AttachedNetwork(
        interfaceName: "eth0", mac: "0a:58:0a:58:00:05", mtu: 1450, addresses: ["10.88.0.5/16", "fd00::5/64"],
        routes: [NetworkRoute(destination: "0.0.0.0/0", gateway: "10.88.0.1", interface: "eth0", mtu: 1400)],
        additional: [AttachedInterface(name: "net1", mac: "0a:58:0a:58:00:06", mtu: 1500, addresses: ["10.89.0.5/16"])],
        dns: NetworkDNS(nameservers: ["10.96.0.10"], domain: "d", search: ["s"], options: ["ndots:5"]))

    private static let sandboxes: [(String, SandboxState)] = [
        ("sandbox-0-reserved", .reserved),
        ("sandbox-1-networked", .starting(.attached(network), phase: "networked")),
        ("sandbox-2-booting", .starting(.attached(network), phase: "booting")),
        ("sandbox-3-ready", .ready(.attached(network))),
        ("sandbox-4-stopping", .stopping(.attached(network))),
        ("sandbox-5-stopping", .stopping(nil)),
        ("sandbox-6-stopped", .stopped),
        ("sandbox-7-failed", .failed(step: "boot the guest: no answer")),
        ("sandbox-8-removed", .removed),
    ]

    @Test(arguments: sandboxes) func aSandboxOfAnEarlierVersionIsWhatItWas(_ name: String, _ state: SandboxState) throws {
        let document = try SandboxDocument(stored: Self.golden(name))
        #expect(document.state == state)
        let spec = document.spec
        #expect(spec.metadata == .init(name: "web", uid: "1234-5678", namespace: "default", attempt: 2))
        #expect(spec.networkMode == .pod && spec.hostname == "web-0" && spec.runtimeHandler == "microvm")
        #expect(spec.dns?.servers == ["10.96.0.10"] && spec.logDirectory == "/var/log/pods/default_web_1234")
        #expect(spec.portMappings == [PortMapping(transport: .udp, containerPort: 53, hostPort: 5353, hostIP: "127.0.0.1")])
        #expect(spec.labels == ["app": "web"] && spec.annotations == ["note": "a"] && spec.cgroupParent == "/kubepods/pod1234")
        #expect(spec.sysctls == ["net.core.somaxconn": "1024"] && spec.sharesPidNamespace && spec.separatesIPC == false)
        #expect(spec.userNamespace?.uids == [IDMapping(containerID: 0, hostID: 65536, length: 65536)])
        #expect(spec.resources?.memoryLimit == 64 << 20 && spec.overhead?.cpuShares == 512)
        // What is written now is read as the same.
        let again = try SandboxDocument(stored: document.stored())
        #expect(again.spec == spec && again.state == state)
    }

    @Test func aSandboxThatSaidNothingIsRead() throws {
        let spec = try SandboxDocument(stored: Self.golden("sandbox-minimal")).spec
        #expect(spec == SandboxSpec(metadata: spec.metadata))
    }

    @Test(arguments: [
        ("container-0-created", "created"), ("container-1-running", "running"), ("container-2-exited", "exited"),
        ("container-3-removed", "removed"), ("container-minimal", "created"),
    ])
    func aContainerOfAnEarlierVersionIsWhatItWas(_ name: String, _ state: String) throws {
        let document = try ContainerDocument(stored: Self.golden(name))
        #expect(document.state.name == state && document.imageID == "sha256:abcd" && document.spec.metadata.name == "nginx")
        guard name != "container-minimal" else { return }
        let spec = document.spec
        #expect(spec.command == ["/bin/sh"] && spec.arguments == ["-c", "true"] && spec.environment == [.init(key: "A", value: "b")])
        #expect(spec.mounts.first?.hostPath == "/srv/data" && spec.mounts.first?.propagation == .hostToContainer)
        #expect(spec.user == "1000:1000" && spec.group == 1000 && spec.supplementalGroups == [2000] && spec.privileged)
        #expect(spec.pidMode == .target && spec.pidTarget == "abc" && spec.oomScoreAdjustment == -998 && document.stopSignal == 3)
        #expect(document.user == ContainerUser(uid: 1000, gid: 1000, groups: [1000, 2000]))
        if state == "exited" { #expect(document.state.exit?.reason == "OOMKilled" && document.state.exit?.code == 137) }
    }

    @Test func ledgerDocumentsOfAnEarlierVersionAreRead() throws {
        func entry(_ name: String) throws -> LedgerEntry {
            LedgerEntry(owner: "o", kind: .machine, name: "n", document: try Self.golden(name))
        }
        #expect(try entry("ledger-process").process?.pid == 4711)
        #expect(try entry("ledger-process-none").process == nil)
        _ = try entry("ledger-none").decoded(EmptyDocument.self)
        #expect(try entry("ledger-tap").decoded(TapDocument.self).namespace == "/run/swiftlet/pods/0123456789abc.netns")
        #expect(try entry("ledger-share-mounts").decoded(ShareMountsDocument.self).container == "c1")
        #expect(try entry("ledger-network-attachment").decoded(PodNetworkRequest.self).namespacePath == "/run/x.netns")
    }

    @Test func nodeSettingsOfAnEarlierVersionAreRead() async throws {
        let node = try await FakeNode()
        let document = try Self.golden("node-pod-cidrs")
        try await node.database.write { try NodeSettingRecord(name: "podCIDR", document: document).save($0) }
        try await node.registry.recover()
        #expect(node.registry.podCIDRs == ["10.244.0.0/24", "fd00::/64"])
        await node.close()
    }

    @Test func everyDocumentSaysItsVersion() throws {
        let documents: [any StoredDocument] = [
            try SandboxDocument(stored: Self.golden("sandbox-3-ready")), try ContainerDocument(stored: Self.golden("container-minimal")),
            EmptyDocument(), TapDocument(namespace: "x"), ProcessDocument(process: nil),
        ]
        for document in documents {
            let object = try #require(try JSONSerialization.jsonObject(with: document.stored()) as? [String: Any])
            #expect(object["version"] as? Int == type(of: document).version)
        }
    }

    @Test func aDocumentOfANewerVersionIsRefusedByItsNumber() throws {
        var object = try #require(
            try JSONSerialization.jsonObject(with: SandboxDocument(stored: Self.golden("sandbox-3-ready")).stored()) as? [String: Any])
        object["version"] = 99
        let data = try JSONSerialization.data(withJSONObject: object)
        let error = #expect(throws: SwiftletError.self) { try SandboxDocument(stored: data) }
        #expect(error?.code == .failedPrecondition && error?.message.contains("version 99") == true)
    }

    @Test func noErrorQuotesWhatADocumentHolds() throws {
        let secret = #"{"spec": {"metadata": {"name": 7}, "environment": [{"key": "PASSWORD", "value": "hunter2"}]}}"#
        let error = #expect(throws: SwiftletError.self) { try ContainerDocument(stored: Data(secret.utf8)) }
        #expect(error?.description.contains("hunter2") == false && error?.message.contains("container record") == true)
    }
}

@Suite(.timeLimit(.minutes(1))) struct UnreadableRecordTests {
    /// A second daemon over the first one's state, whose record of one table `damage` has changed.
    private func restarted(
        _ table: String, _ document: String, _ body: (FakeNode, _ pod: String, _ container: String) async throws -> Void
    ) async throws {
        try await FakeNode.withPod { node, pod, machine in
            let spec = ContainerSpec(metadata: .init(name: "c", attempt: 0), image: FakeNode.image)
            var running = spec
            running.command = ["/bin/true"]
            let container = try await node.registry.createContainer(in: pod, running)
            try await node.registry.startContainer(container)
            node.registry.close()
            let changed = try await node.database.write { database in
                try database.execute(sql: "UPDATE \(table) SET document = ?", arguments: [Data(document.utf8)])
                return database.changesCount
            }
            #expect(changed > 0)
            let next = try await FakeNode(handler: node.handler, directory: node.directory)
            try await next.registry.recover()
            await next.registry.recovered()
            do {
                try await body(next, pod, container)
            } catch {
                await next.close()
                throw error
            }
            await next.close()
        }
    }

    @Test(arguments: [
        "", "{", "null", #"{"version": 99}"#,
        #"{"spec": {"metadata": {"name": "pod", "uid": "u-pod", "namespace": "default", "attempt": 0}}}"#,
    ])
    func anUnreadableSandboxIsNotReadyKeepsItsMachineAndGoesByStopAndRemove(_ document: String) async throws {
        try await restarted("sandbox", document) { node, pod, container in
            let snapshot = try node.registry.sandbox(pod)
            #expect(!snapshot.isReady)
            guard case .failed(let reason) = snapshot.state else {
                Issue.record("it is \(snapshot.state.name)")
                return
            }
            #expect(reason.contains("pod sandbox record"))
            #expect(snapshot.spec.metadata.name == (document.contains("u-pod") ? "pod" : pod))
            #expect(node.handler.existing.contains("vm-\(pod)"), "its machine runs on")
            #expect(try await node.ledger().count == 5)
            // The collector leaves it alone.
            try await node.collectOnce()
            #expect(node.handler.existing.contains("vm-\(pod)"))
            try await node.registry.stopSandbox(pod)
            #expect(node.handler.existing.isEmpty)
            try await node.registry.removeSandbox(pod)
            #expect(node.registry.sandboxes().isEmpty && node.registry.containers().isEmpty)
            #expect(try await node.ledger().isEmpty)
            #expect(try await node.database.read { try SandboxRecord.fetchCount($0) + ContainerRecord.fetchCount($0) } == 0)
        }
    }

    @Test(arguments: ["", "[]", #"{"version": 99}"#])
    func anUnreadableContainerIsExitedWithTheReasonAndGoesByRemove(_ document: String) async throws {
        try await restarted("container", document) { node, pod, container in
            #expect(try node.registry.sandbox(pod).isReady)
            let snapshot = try node.registry.container(container)
            #expect(snapshot.state.exit?.reason == "ContainerStatusUnknown")
            #expect(snapshot.state.exit?.message.contains("container record") == true)
            try await node.registry.stopContainer(container, timeout: .zero)
            try await node.registry.removeContainer(container)
            #expect(node.handler.machine(of: pod)?.life.deletions == [container], "the guest has forgotten it")
            #expect(node.registry.containers().isEmpty)
            #expect(try await node.ledger().count == 4)
            try await node.registry.removeSandbox(pod)
            #expect(node.handler.existing.isEmpty)
        }
    }

    @Test func oneDamagedRowOfEachTableHidesNoOther() async throws {
        let node = try await FakeNode()
        let first = try await node.registry.runSandbox(FakeNode.spec("one"))
        let second = try await node.registry.runSandbox(FakeNode.spec("two"))
        node.registry.close()
        await node.images.shutdown()
        try await node.database.write { database in
            try database.execute(sql: "UPDATE sandbox SET document = 17, createdAt = 'x' WHERE id = ?", arguments: [first])
            try database.execute(sql: "UPDATE resource SET document = x'00' WHERE owner = ? AND kind = 'tap'", arguments: [first])
            try database.execute(sql: "INSERT INTO nodeSetting (name, document) VALUES ('podCIDR', 3.5)")
            try database.execute(
                sql: "INSERT INTO container (id, sandboxID, state, createdAt, document) VALUES ('c', ?, 'x', 'y', 'z')",
                arguments: [second])
        }
        let next = try await FakeNode(handler: node.handler, directory: node.directory)
        try await next.registry.recover()
        await next.registry.recovered()
        #expect(try next.registry.sandbox(second).isReady && next.registry.sandbox(first).isReady == false)
        for pod in [first, second] {
            try await next.registry.stopSandbox(pod)
            try await next.registry.removeSandbox(pod)
        }
        #expect(next.handler.existing.isEmpty)
        #expect(try await next.ledger().isEmpty)
        await next.close()
    }

    @Test func aPodWhoseHandlerIsNotConfiguredAnyMoreIsListedAndReleased() async throws {
        let node = try await FakeNode()
        let id = try await node.registry.runSandbox(FakeNode.spec())
        node.registry.close()
        try await node.database.write { database in
            try database.execute(
                sql: "UPDATE sandbox SET document = CAST(replace(CAST(document AS TEXT), '\"runtimeHandler\":\"\"', "
                    + "'\"runtimeHandler\":\"gone\"') AS BLOB)")
        }
        await node.images.shutdown()
        let next = try await FakeNode(handler: node.handler, directory: node.directory)
        try await next.registry.recover()
        #expect(try next.registry.sandbox(id).spec.runtimeHandler == "gone")
        try await next.registry.stopSandbox(id)
        #expect(next.handler.existing.isEmpty)
        try await next.registry.removeSandbox(id)
        await next.close()
    }
}

@Suite(.timeLimit(.minutes(1))) struct StateDatabaseTests {
    private func withFile(_ body: (String) throws -> Void) throws {
        let directory = NSTemporaryDirectory() + "swiftlet-state-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try body(directory + "/state.sqlite")
    }

    /// - Returns: the refusal; the file must be as it was.
    private func refusal(_ path: String) throws -> SwiftletError? {
        let before = try Data(contentsOf: URL(fileURLWithPath: path))
        let error = #expect(throws: SwiftletError.self) { try StateDatabase(path: path) }
        #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == before, "nothing is touched")
        return error
    }

    @Test func whatIsWrittenIsOnDiskBeforeTheWriteReturns() async throws {
        let directory = NSTemporaryDirectory() + "swiftlet-state-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let database = try StateDatabase(path: directory + "/state.sqlite")
        // 2 is FULL (sqlite.org/pragma.html).
        #expect(try await database.write { try Int.fetchOne($0, sql: "PRAGMA synchronous") } == 2)
    }

    @Test func aDatabaseOfAnotherProgramIsRefused() throws {
        try withFile { path in
            try DatabaseQueue(path: path).write { try $0.execute(sql: "CREATE TABLE songs (title TEXT)") }
            let error = try refusal(path)
            #expect(error?.code == .failedPrecondition && error?.message.contains("another program") == true)
        }
    }

    @Test func aFileThatIsNoDatabaseIsRefused() throws {
        try withFile { path in
            try Data(String(repeating: "not a database\n", count: 1000).utf8).write(to: URL(fileURLWithPath: path))
            #expect(try refusal(path)?.message.contains(path) == true)
        }
    }

    @Test func aDatabaseOfANewerVersionIsRefusedByItsSchema() throws {
        try withFile { path in
            do { _ = try StateDatabase(path: path) }
            try DatabaseQueue(path: path).write { try $0.execute(sql: "INSERT INTO grdb_migrations VALUES ('9 holograms')") }
            let error = try refusal(path)
            #expect(error?.code == .failedPrecondition && error?.message.contains("9 holograms") == true)
        }
    }

    @Test func aDatabaseThatIsCutInTheMiddleIsRefused() throws {
        try withFile { path in
            do {
                let database = try DatabaseQueue(path: path)
                try database.write { database in
                    try database.execute(sql: "CREATE TABLE grdb_migrations (identifier TEXT NOT NULL PRIMARY KEY)")
                    try database.execute(sql: "CREATE TABLE filler (bytes BLOB)")
                    for _ in 0..<64 { try database.execute(sql: "INSERT INTO filler VALUES (randomblob(4000))") }
                }
                try database.close()
            }
            let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
            try bytes.prefix(bytes.count / 2).write(to: URL(fileURLWithPath: path))
            #expect(try refusal(path)?.code == .dataLoss)
        }
    }
}
