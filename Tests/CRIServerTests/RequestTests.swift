import CRI
import Errors
import Foundation
import GRPC
import Runtime
import Testing

@testable import CRIServer
@testable import Pods

@Suite struct SandboxRequestTests {
    private static func valid(_ change: (inout CRIPodSandboxConfig) -> Void = { _ in }) -> CRIPodSandboxConfig {
        .with {
            $0.metadata = .with {
                $0.name = "pod"
                $0.uid = "u"
                $0.namespace = "default"
            }
            change(&$0)
        }
    }

    private func refuses(_ field: String, _ change: (inout CRIPodSandboxConfig) -> Void) {
        let error = #expect(throws: SwiftletError.self) { try SandboxRequest.spec(Self.valid(change), handler: "") }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains(field) == true, "\(error?.message ?? "")")
        #expect((error?.message.utf8.count ?? 0) < 400)
    }

    @Test func missingMetadataIsNamed() {
        let error = #expect(throws: SwiftletError.self) { try SandboxRequest.spec(CRIPodSandboxConfig(), handler: "") }
        #expect(error?.message.contains("metadata") == true)
        refuses("metadata.name") { $0.metadata.name = "" }
        refuses("metadata.uid") { $0.metadata.uid = "" }
        refuses("metadata.namespace") { $0.metadata.namespace = "" }
    }

    @Test(arguments: ["../../etc", "a/b", "a\u{0}b", String(repeating: "n", count: 10000), "..", "a\nb"])
    func namesThatCouldLeaveAPathAreRefused(_ name: String) {
        refuses("metadata.name") { $0.metadata.name = name }
        refuses("metadata.uid") { $0.metadata.uid = name }
        refuses("metadata.namespace") { $0.metadata.namespace = name }
    }

    @Test func badFieldsAreNamed() {
        refuses("hostname") { $0.hostname = "-bad-" }
        refuses("hostname") { $0.hostname = String(repeating: "h", count: 65) }
        refuses("log_directory") { $0.logDirectory = "relative" }
        refuses("log_directory") { $0.logDirectory = "/var/../etc" }
        refuses("dns_config.servers") { $0.dnsConfig.servers = ["1.1.1.1\nnameserver 6.6.6.6"] }
        for (host, container, field) in [(70000, 80, "host_port 70000"), (-1, 80, "host_port -1"), (80, 0, "container_port 0")] {
            refuses("port_mappings.\(field)") {
                $0.portMappings = [.with { ($0.hostPort, $0.containerPort) = (Int32(host), Int32(container)) }]
            }
        }
        refuses("windows") { $0.windows.securityContext.runAsUsername = "me" }
        refuses("memory_limit_in_bytes") { $0.linux.resources.memoryLimitInBytes = -1 }
        refuses("cgroup_parent") { $0.linux.cgroupParent = "kubepods" }
        for path: WritableKeyPath<CRINamespaceOption, CRINamespaceMode> & Sendable in [\.network, \.pid, \.ipc] {
            refuses("namespace_options") { $0.linux.securityContext.namespaceOptions[keyPath: path] = .target }
        }
    }

    @Test func limitsOfThePodAndItsOverheadAreTaken() throws {
        let spec = try SandboxRequest.spec(
            Self.valid {
                $0.linux.resources.memoryLimitInBytes = 1 << 30
                $0.linux.overhead.memoryLimitInBytes = 64 << 20
                $0.linux.resources.cpuQuota = 150_000
                $0.linux.sysctls = ["net/ipv4/conf/eth0.1/forwarding": "1", "kernel.shm_rmid_forced": "1"]
            }, handler: "microvm")
        #expect(spec.resources?.memoryLimit == 1 << 30 && spec.resources?.cpuQuota == 150_000)
        #expect(spec.overhead?.memoryLimit == 64 << 20)
        #expect(spec.sysctls.count == 2)
        #expect(spec.runtimeHandler == "microvm")
        refuses("linux.resources.cpu_period") { $0.linux.resources.cpuPeriod = 1 }
        refuses("linux.overhead.memory_limit_in_bytes") { $0.linux.overhead.memoryLimitInBytes = -1 }
        for name in ["", "a", "../x", "a..b", "net/../x", "a b.c", "a.b\n", String(repeating: "a.", count: 200) + "a"] {
            refuses("sysctls") { $0.linux.sysctls = [name: "1"] }
        }
        refuses("sysctls") { $0.linux.sysctls = ["a.b": "1\u{0}"] }
    }
}

@Suite struct SandboxMessageTests {
    @Test func aStatusShowsTheNamespacesThatWereAskedFor() throws {
        let ranges = CRIUserNamespace.with {
            $0.uids = [.with { ($0.hostID, $0.length) = (65536, 65536) }]
            $0.gids = [.with { ($0.hostID, $0.length) = (131_072, 65536) }]
        }
        for option in [
            CRINamespaceOption(), .with { $0.pid = .container }, .with { $0.ipc = .container }, .with { $0.usernsOptions = ranges },
        ] {
            let config = CRIPodSandboxConfig.with {
                $0.metadata = .with { ($0.name, $0.uid, $0.namespace) = ("pod", "u", "default") }
                $0.linux.securityContext.namespaceOptions = option
            }
            let snapshot = SandboxSnapshot(
                id: "p", spec: try SandboxRequest.spec(config, handler: ""), state: .reserved, createdAt: 1)
            #expect(SandboxMessage.status(snapshot).linux.namespaces.options == option)
        }
    }
}

@Suite struct ContainerRequestTests {
    /// A kubelet hands the bytes of a Secret on as they are.
    @Test func valuesOfTheEnvironmentNeedNotBeUTF8() throws {
        let value = Data([0x66, 0xFF, 0xFE, 0xC3])
        let spec = try ContainerRequest.spec(Self.valid { $0.envs = [.with { ($0.key, $0.value) = ("RAW", value) }] })
        #expect(spec.environment == [.init(key: "RAW", value: RawText(bytes: value))])
        let stored = try JSONEncoder().encode(spec)
        #expect(try JSONDecoder().decode(ContainerSpec.self, from: stored).environment == spec.environment)
    }

    private static func valid(_ change: (inout CRIContainerConfig) -> Void = { _ in }) -> CRIContainerConfig {
        .with {
            $0.metadata.name = "c"
            $0.image.image = "localhost/x:1"
            change(&$0)
        }
    }

    private func refuses(
        _ field: String, _ code: SwiftletError.Code = .invalidArgument, _ change: (inout CRIContainerConfig) -> Void
    ) {
        let error = #expect(throws: SwiftletError.self) { try ContainerRequest.spec(Self.valid(change)) }
        #expect(error?.code == code)
        #expect(error?.message.contains(field) == true, "\(error?.message ?? "")")
    }

    @Test func noErrorQuotesASecret() {
        let changes: [(inout CRIContainerConfig) -> Void] = [
            { $0.envs = [.with { $0.key = "PASSWORD=hunter2" }] },
            { $0.envs = [.with { ($0.key, $0.value) = ("PASSWORD", Data("hunter2\u{0}".utf8)) }] },
            { $0.args = ["--password=hunter2\u{0}"] },
        ]
        for change in changes {
            let error = #expect(throws: SwiftletError.self) { try ContainerRequest.spec(Self.valid(change)) }
            #expect(error?.description.contains("hunter2") == false, "\(error?.description ?? "")")
        }
    }

    @Test func badFieldsAreNamed() {
        refuses("metadata") { $0.clearMetadata() }
        refuses("image") { $0.image.image = "" }
        refuses("windows") { $0.windows.resources.cpuCount = 1 }
        refuses("log_path") { $0.logPath = "../../etc/passwd" }
        refuses("log_path") { $0.logPath = "/etc/passwd" }
        refuses("envs") { $0.envs = [.with { $0.key = "A=B" }] }
        refuses("envs") {
            $0.envs = [
                .with {
                    $0.key = "A"
                    $0.value = Data([0xFF, 0x00])
                }
            ]
        }
        refuses("command") { $0.command = ["a\u{0}b"] }
        refuses("run_as_user") { $0.linux.securityContext.runAsUser.value = -1 }
        refuses("run_as_user") { $0.linux.securityContext.runAsUser.value = 1 << 32 }
        refuses("run_as_group") { $0.linux.securityContext.runAsGroup.value = 5 }
        refuses("masked_paths") { $0.linux.securityContext.maskedPaths = ["proc"] }
        refuses("oom_score_adj") { $0.linux.resources.oomScoreAdj = 2000 }
        refuses("unified") { $0.linux.resources.unified = ["../memory.max": "1"] }
        refuses("cpu_shares") { $0.linux.resources.cpuShares = -5 }
    }

    @Test func resourcesBecomeCgroupFiles() throws {
        let spec = try ContainerRequest.spec(
            Self.valid {
                $0.linux.resources = .with {
                    $0.cpuShares = 1024
                    $0.cpuQuota = 50_000
                    $0.cpuPeriod = 100_000
                    $0.memoryLimitInBytes = 64 << 20
                    $0.unified = ["pids.max": "50"]
                }
            })
        #expect(spec.resources.cgroupFiles == ["cpu.weight": "39", "cpu.max": "50000 100000", "memory.max": "67108864", "pids.max": "50"])
    }

    @Test func everySignalOfTheInterfaceHasANumber() throws {
        for signal in CRISignal.allCases where signal != .runtimeDefault {
            let name = try SignalMessage.name(of: signal)
            let number = try SignalName.number(of: name)
            let back = try SignalMessage.name(of: SignalMessage.signal(numbered: number))
            #expect(try SignalName.number(of: back) == number)
        }
        #expect(SignalMessage.signal(numbered: 15) == .sigterm)
    }
}

@Suite struct ErrorMappingTests {
    @Test func everyCodeKeepsItsName() {
        for (code, status) in [
            (SwiftletError.Code.notFound, GRPCStatus.Code.notFound), (.invalidArgument, .invalidArgument), (.unavailable, .unavailable),
            (.failedPrecondition, .failedPrecondition), (.deadlineExceeded, .deadlineExceeded), (.dataLoss, .dataLoss),
        ] {
            #expect(ErrorMapping.status(of: SwiftletError(code, "x")).code == status)
        }
        #expect(ErrorMapping.status(of: CancellationError()).code == .cancelled)
    }

    @Test func causesAreTold() {
        let inner = SwiftletError(.unavailable, "no route")
        let status = ErrorMapping.status(of: SwiftletError(.internal, "pull", cause: inner))
        #expect(status.message == "pull: no route")
    }
}
