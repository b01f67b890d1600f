import Errors
import Foundation
import Linux
import Runtime
import State
import Testing

@testable import HostRuntime

@Suite(.timeLimit(.minutes(1))) struct BundleTests {
    static func plan(_ change: (inout ContainerSpec) -> Void = { _ in }) throws -> ContainerPlan {
        var spec = ContainerSpec(metadata: .init(name: "main", attempt: 0), image: "localhost/tools:1")
        spec.maskedPaths = ["/proc/kcore"]
        spec.readonlyPaths = ["/proc/sys"]
        spec.resources.memoryLimit = 64 << 20
        spec.resources.cpuQuota = 50_000
        spec.resources.cpuPeriod = 100_000
        change(&spec)
        return ContainerPlan(
            spec: spec, root: .layers([LayerImage(path: "/images/a", serial: "0123", filesystem: "erofs", sizeBytes: 4096)]),
            arguments: ["/bin/sh", "-c", "true"], environment: ["PATH=/bin", "NAME=value"], workingDirectory: "/work",
            user: try UserReference(parsing: "1000", "user"), stopSignal: 15)
    }

    static func place(_ change: (inout SandboxSpec) -> Void = { _ in }) -> ContainerPlace {
        var pod = SandboxSpec(metadata: .init(name: "agent", uid: "u1", namespace: "kube-system", attempt: 0))
        change(&pod)
        let configuration = HostConfiguration(
            runDirectory: "/run/swiftlet/host", stateDirectory: "/var/lib/swiftlet/host", conmon: "/usr/bin/conmon", usesSystemd: false)
        return ContainerPlace(
            pod: pod, names: HostNames(configuration: configuration, pod: "aaaaaaaaaaaaabbbb"), container: "cccccccccccccdddd",
            user: ContainerUser(uid: 1000, gid: 1000, groups: [1000, 44]),
            networkNamespace: pod.networkMode == .node ? nil : "/run/netns/pod",
            cgroupsPath: "/kubepods/pod1/cccccccccccccdddd", devices: [], deviceRules: [], isUnifiedCgroup: true)
    }

    /// The whole of a usual container's config.json.
    @Test func bundleOfAContainerIsAsItWas() throws {
        let bundle = try RuntimeSpec(
            Self.plan { spec in
                var mount = ContainerMount(containerPath: "/data")
                (mount.hostPath, mount.readOnly, mount.propagation) = ("/srv/data", true, .hostToContainer)
                spec.mounts = [mount]
            }, Self.place())
        let text = String(decoding: try JSONEncoder.bundle.encode(bundle), as: UTF8.self) + "\n"
        let golden = try #require(Bundle.module.url(forResource: "container", withExtension: "json", subdirectory: "Golden"))
        if ProcessInfo.processInfo.environment["SWIFTLET_WRITE_GOLDEN"] != nil {
            let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Golden/container.json")
            try text.write(to: source, atomically: true, encoding: .utf8)
        }
        let expected = try String(contentsOf: golden, encoding: .utf8)
        #expect(text == expected)
    }

    @Test func podsOfTheNodeShareItsNamespaces() throws {
        let bundle = try RuntimeSpec(
            Self.plan {
                $0.networkMode = .node
                $0.pidMode = .node
                $0.security.ipcMode = .node
            },
            Self.place {
                $0.networkMode = .node
                $0.nodeNamespaces = [.pid, .ipc]
            })
        #expect(bundle.linux.namespaces.map(\.type) == ["mount", "cgroup"])
        #expect(bundle.mounts.first { $0.destination == "/dev/shm" }?.source == "/dev/shm")
    }

    @Test func containersOfAPodThatSharesItsProcessesJoinItsPIDNamespace() throws {
        let bundle = try RuntimeSpec(Self.plan { $0.pidMode = .pod }, Self.place { $0.sharesPidNamespace = true })
        let namespace = bundle.linux.namespaces.first { $0.type == "pid" }
        #expect(namespace?.path == "/run/swiftlet/host/aaaaaaaaaaaaa/pid")
        let own = try RuntimeSpec(Self.plan { $0.pidMode = .container }, Self.place { $0.sharesPidNamespace = true })
        #expect(own.linux.namespaces.contains { $0.type == "pid" && $0.path == nil })
    }

    @Test func privilegedContainersAreNotConfined() throws {
        let bundle = try RuntimeSpec(
            Self.plan {
                $0.privileged = true
                $0.noNewPrivileges = true
            }, Self.place())
        #expect(bundle.linux.maskedPaths.isEmpty && bundle.linux.readonlyPaths.isEmpty && bundle.linux.seccomp == nil)
        #expect(bundle.process.capabilities.bounding.contains("CAP_SYS_ADMIN") && !bundle.process.noNewPrivileges)
        #expect(bundle.linux.resources.devices == [.init(allow: true, access: "rwm")])
        #expect(bundle.mounts.first { $0.destination == "/sys" }?.options.contains("rw") == true)
    }

    @Test func mountsComeAfterThoseTheyLieIn() throws {
        func mount(_ path: String, _ propagation: ContainerMount.Propagation = .none) -> ContainerMount {
            var mount = ContainerMount(containerPath: path)
            (mount.hostPath, mount.propagation) = ("/srv", propagation)
            return mount
        }
        let bundle = try RuntimeSpec(
            Self.plan { $0.mounts = [mount("/a/b/c", .bidirectional), mount("/a"), mount("/dev/shm")] }, Self.place())
        #expect(bundle.mounts.suffix(3).map(\.destination) == ["/a", "/dev/shm", "/a/b/c"])
        #expect(bundle.mounts.filter { $0.destination == "/dev/shm" }.count == 1)
        #expect(bundle.mounts.last?.options == ["rbind", "rshared", "rw"])
        #expect(bundle.linux.rootfsPropagation == "rshared")
    }

    @Test func imagesAreMountedReadOnlyFromWhereTheyAre() throws {
        var place = Self.place()
        place.images = [1: "/run/swiftlet/host/layers/0123/bin"]
        let bundle = try RuntimeSpec(
            Self.plan { spec in
                var (host, image) = (ContainerMount(containerPath: "/a/b"), ContainerMount(containerPath: "/m"))
                host.hostPath = "/srv"
                (image.image, image.readOnly, image.options) = ("localhost/a:1", true, ["noexec"])
                spec.mounts = [host, image]
            }, place)
        #expect(bundle.mounts.suffix(2).map(\.source) == ["/run/swiftlet/host/layers/0123/bin", "/srv"])
        #expect(bundle.mounts.first { $0.destination == "/m" }?.options == ["rbind", "rprivate", "ro", "nodev", "noexec"])
    }

    @Test func appArmorProfilesOfTheNodeArePassedOn() throws {
        let profiled = try Self.plan { $0.security.policies = SecurityPolicies(appArmorProfile: "own (test)") }
        #expect(try RuntimeSpec(profiled, Self.place()).process.apparmorProfile == "own (test)")
        let privileged = try Self.plan {
            $0.security.policies = SecurityPolicies(appArmorProfile: "own")
            $0.privileged = true
        }
        #expect(try RuntimeSpec(privileged, Self.place()).process.apparmorProfile == nil)
    }

    /// Only what the kernel has loaded is a profile: no part of a name is one.
    @Test func appArmorProfilesThatAreNotLoadedAreRefusedByField() throws {
        let root = FileManager.default.temporaryDirectory.appendingPathComponent("apparmor-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: root) }
        let (parameters, security) = ("\(root)/module/apparmor/parameters", "\(root)/kernel/security/apparmor")
        for directory in [parameters, security] {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        }
        let module = AppArmor(root: root)
        #expect(!module.isEnabled)
        try "Y\n".write(toFile: "\(parameters)/enabled", atomically: false, encoding: .utf8)
        #expect(module.isEnabled)
        try "docker-default (enforce)\nown (test) (complain)\n".write(
            toFile: "\(security)/profiles", atomically: false, encoding: .utf8)
        for loaded in ["docker-default", "own (test)"] { try module.check(loaded) }
        for absent in ["docker", "own", "enforce", "docker-default (enforce)"] {
            let error = #expect(throws: SwiftletError.self, "\(absent)") { try module.check(absent) }
            #expect(error?.message.contains("security_context.apparmor") == true)
        }
    }

    /// What is not built is refused by its field, never left out.
    @Test(arguments: ["uidMappings", "namespace_options.pid", "config.envs"]) func whatIsMissingIsRefusedByField(
        _ field: String
    ) throws {
        var plan = try Self.plan { spec in
            var mount = ContainerMount(containerPath: "/m")
            switch field {
            case "uidMappings":
                let mapping = IDMapping(containerID: 0, hostID: 100_000, length: 10)
                mount.mappings = IDMappings(uids: [mapping], gids: [mapping])
            case "namespace_options.pid": spec.pidMode = .pod
            default: return
            }
            if spec.pidMode != .pod { spec.mounts = [mount] }
        }
        if field == "config.envs" { plan.environment.append(RawText(bytes: [0x41, 0x3D, 0xFF])) }
        let error = #expect(throws: SwiftletError.self) { _ = try RuntimeSpec(plan, Self.place()) }
        #expect(error?.message.contains(field) == true)
    }

    @Test func profilesAreDecidedForTheContainersCapabilities() throws {
        let document = try SeccompDocument.decode(
            Data(
                """
                {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": [
                  {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
                  {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                  {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
                  {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]},
                   "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}]}]}
                """.utf8))
        #expect(try RuntimeSpec.Seccomp(document, held: []).syscalls.map(\.names) == [["read"], ["ptrace"], ["clone"]])
        #expect(try RuntimeSpec.Seccomp(document, held: ["CAP_SYS_ADMIN"]).syscalls.map(\.names) == [["read"], ["mount"], ["ptrace"]])
    }

    /// What capabilities bring is in the default profile, and no call has two rules of which one is for all of its arguments.
    @Test(arguments: [[], ["CAP_SYS_ADMIN"], Capability.all]) func theDefaultProfileFollowsTheCapabilities(_ held: [String]) throws {
        let profile = RuntimeSpec.Seccomp(defaultFor: Set(held))
        let isAdministrator = held.contains("CAP_SYS_ADMIN")
        func rules(_ name: String) -> [RuntimeSpec.Seccomp.Rule] { profile.syscalls.filter { $0.names.contains(name) } }
        #expect(profile.defaultAction == "SCMP_ACT_ERRNO" && profile.defaultErrnoRet == 1)
        #expect(rules("read").map(\.action) == ["SCMP_ACT_ALLOW"] && rules("keyctl").isEmpty)
        #expect(rules("unshare").count == (isAdministrator ? 1 : 0))
        #expect(rules("clone3").map(\.errnoRet) == [isAdministrator ? nil : 38])
        #expect(rules("clone").map { $0.args?.first?.value } == [isAdministrator ? nil : 0x7E02_0000])
        #expect(rules("socket").count == 6)
        for rule in profile.syscalls where rule.args == nil {
            #expect(Set(rule.names).count == rule.names.count)
            for name in rule.names { #expect(rules(name).count == 1, "\(name)") }
        }
        var plan = try Self.plan { $0.capabilities.add = held.isEmpty ? [] : ["SYS_ADMIN"] }
        plan.seccomp = .runtimeDefault
        let written = try #require(try RuntimeSpec(plan, Self.place()).linux.seccomp)
        #expect(written.syscalls.contains { $0.names.contains("chroot") }, "of the capabilities that every container has")
    }

    @Test func usersAreThoseOfTheImage() throws {
        let users = ImageUsers(
            passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:\n", group: "root:x:0:\nweb:x:34:\nlog:x:50:web,other\n")
        var plan = try Self.plan { $0.supplementalGroups = [7] }
        plan.user = try UserReference(parsing: "web", "user")
        #expect(try users.resolve(plan) == ContainerUser(uid: 33, gid: 34, groups: [34, 7, 50]))
        plan.spec.security.strictGroups = true
        plan.user = try UserReference(parsing: "33:log", "user")
        #expect(try users.resolve(plan) == ContainerUser(uid: 33, gid: 50, groups: [50, 7]))
        plan.user = try UserReference(parsing: "nobody", "user")
        #expect(throws: SwiftletError.self) { try users.resolve(plan) }
    }
}
