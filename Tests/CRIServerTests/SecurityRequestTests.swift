import CRI
import Errors
import Pods
import Runtime
import Testing

@testable import CRIServer

/// What a container may ask of its confinement, and what is refused by name.
@Suite struct SecurityRequestTests {
    private func spec(_ change: (inout CRIContainerConfig) -> Void) throws -> ContainerSpec {
        try ContainerRequest.spec(
            .with {
                $0.metadata.name = "c"
                $0.image.image = "localhost/x:1"
                change(&$0)
            })
    }

    private func context(_ change: (inout CRILinuxContainerSecurityContext) -> Void) throws -> ContainerSpec {
        try spec { change(&$0.linux.securityContext) }
    }

    private func refuses(
        _ field: String, _ code: SwiftletError.Code = .invalidArgument, _ change: (inout CRILinuxContainerSecurityContext) -> Void
    ) {
        let error = #expect(throws: SwiftletError.self) { try context(change) }
        #expect(error?.code == code, "\(String(describing: error))")
        #expect(error?.message.contains(field) == true, "\(String(describing: error))")
    }

    @Test func seccompProfilesAreUnderstoodInBothForms() throws {
        #expect(try context { _ in }.security.seccomp == .unconfined)
        #expect(try context { $0.seccomp.profileType = .runtimeDefault }.security.seccomp == .runtimeDefault)
        #expect(try context { $0.seccomp.profileType = .unconfined }.security.seccomp == .unconfined)
        #expect(try context { $0.seccompProfilePath = "runtime/default" }.security.seccomp == .runtimeDefault)
        #expect(try context { $0.seccompProfilePath = "docker/default" }.security.seccomp == .runtimeDefault)
        #expect(try context { $0.seccompProfilePath = "unconfined" }.security.seccomp == .unconfined)
        #expect(try context { $0.seccompProfilePath = "localhost//etc/p.json" }.security.seccomp == .localhost("/etc/p.json"))
        let both = try context {
            $0.seccompProfilePath = "unconfined"
            $0.seccomp.profileType = .localhost
            $0.seccomp.localhostRef = "/etc/q.json"
        }
        #expect(both.security.seccomp == .localhost("/etc/q.json"))
        refuses("localhost_ref") { $0.seccomp.profileType = .localhost }
        refuses("localhost_ref") {
            $0.seccomp.profileType = .localhost
            $0.seccomp.localhostRef = "relative.json"
        }
        refuses("localhost_ref") { $0.seccomp.localhostRef = "/etc/p.json" }
        refuses("seccomp_profile_path") { $0.seccompProfilePath = "localhost/../p.json" }
        refuses("seccomp_profile_path") { $0.seccompProfilePath = "some/profile" }
        refuses("profile_type") { $0.seccomp.profileType = .UNRECOGNIZED(9) }
    }

    @Test func policiesThatSomebodyHasWrittenAreTheHandlersToRefuse() throws {
        let profile = try context {
            $0.apparmor.profileType = .localhost
            $0.apparmor.localhostRef = "mine"
        }
        #expect(profile.security.policies == SecurityPolicies(appArmorProfile: "mine"))
        let deprecated = try context { $0.apparmorProfile = "localhost/mine" }
        #expect(deprecated.security.policies == SecurityPolicies(appArmorProfile: "mine"))
        let type = try context { $0.selinuxOptions.type = "my_policy_t" }
        #expect(
            type.security.policies == SecurityPolicies(selinuxType: "my_policy_t", selinux: SELinuxOptions(type: "my_policy_t")))
        refuses("apparmor_profile") { $0.apparmorProfile = "mine" }
        for name in ["", "runtime/default", "unconfined"] {
            #expect(try context { $0.apparmorProfile = name }.security.policies == nil)
        }
        #expect(try context { $0.apparmor.profileType = .runtimeDefault }.security.policies == nil)
        let standard = try context {
            $0.selinuxOptions.type = "container_t"
            $0.selinuxOptions.level = "s0:c1,c2"
        }
        let said = SELinuxOptions(type: "container_t", level: "s0:c1,c2")
        #expect(standard.security.policies == SecurityPolicies(selinux: said), "what a handler without SELinux may leave out")
    }

    @Test func namespacesAreThePodsTheContainersOrAnothers() throws {
        let own = try context { $0.namespaceOptions.ipc = .container }
        #expect(own.security.ipcMode == .container && own.pidMode == .pod)
        let target = try context {
            $0.namespaceOptions.ipc = .target
            $0.namespaceOptions.pid = .target
            $0.namespaceOptions.targetID = "abc"
        }
        #expect(target.security.ipcTarget == "abc" && target.pidTarget == "abc" && target.security.ipcMode == .target)
        refuses("target_id") { $0.namespaceOptions.ipc = .target }
        refuses("namespace_options.network") { $0.namespaceOptions.network = .container }
        // Whether it may have them its handler decides.
        let node = try context { options in
            for path: WritableKeyPath<CRINamespaceOption, CRINamespaceMode> in [\.network, \.pid, \.ipc] {
                options.namespaceOptions[keyPath: path] = .node
            }
        }
        #expect(node.networkMode == .node && node.pidMode == .node && node.security.ipcMode == .node)
        refuses("namespace_options.ipc") { $0.namespaceOptions.ipc = .UNRECOGNIZED(7) }
    }

    private func namespace(_ container: UInt32, _ host: UInt32, _ length: UInt32, ranges: Int = 1) -> CRIUserNamespace {
        .with {
            $0.uids = Array(
                repeating: .with {
                    $0.containerID = container
                    $0.hostID = host
                    $0.length = length
                }, count: ranges)
            $0.gids = $0.uids
        }
    }

    @Test func userNamespacesHaveOneRangeFromRootOn() throws {
        #expect(try context { $0.namespaceOptions.usernsOptions.mode = .node }.security.userNamespace == nil)
        let mapped = try context { $0.namespaceOptions.usernsOptions = namespace(0, 65536, 65536) }.security.userNamespace
        #expect(mapped?.uids.first?.hostID == 65536 && mapped?.gids.first?.length == 65536)
        let all = try context { $0.namespaceOptions.usernsOptions = namespace(0, 0, .max) }.security.userNamespace
        #expect(all?.uids.first?.length == .max)
        for wrong in [
            namespace(0, 65536, 65536, ranges: 0), namespace(0, 65536, 65536, ranges: 2), namespace(1, 65536, 65536), namespace(0, 1, 0),
            namespace(0, .max - 10, 65536), namespace(0, 1, .max),
        ] { refuses("userns_options") { $0.namespaceOptions.usernsOptions = wrong } }
        refuses("userns_options") {
            $0.namespaceOptions.usernsOptions = namespace(0, 65536, 65536)
            $0.namespaceOptions.usernsOptions.mode = .node
        }
        for mode in [CRINamespaceMode.container, .target] {
            refuses("userns_options.mode") {
                $0.namespaceOptions.usernsOptions = namespace(0, 65536, 65536)
                $0.namespaceOptions.usernsOptions.mode = mode
            }
        }
    }

    /// A kubelet sends its lists, and empty ones for procMount Unmasked.
    @Test func pathsAreMaskedAsAskedAndNoOthers() throws {
        #expect(try context { _ in }.maskedPaths == [] && context { _ in }.readonlyPaths == [])
        let asked = try context { ($0.maskedPaths, $0.readonlyPaths) = (["/proc/kcore", "/mine"], ["/proc/sys"]) }
        #expect(asked.maskedPaths == ["/proc/kcore", "/mine"] && asked.readonlyPaths == ["/proc/sys"])
        refuses("readonly_paths") { $0.readonlyPaths = ["/proc/../sys"] }
    }

    @Test func groupsAndCapabilitiesAreChecked() throws {
        #expect(try context { $0.supplementalGroupsPolicy = .strict }.security.strictGroups)
        #expect(try !context { $0.supplementalGroupsPolicy = .merge }.security.strictGroups)
        refuses("supplemental_groups_policy") { $0.supplementalGroupsPolicy = .UNRECOGNIZED(5) }
        refuses("run_as_group") { $0.runAsGroup.value = 5 }
        refuses("capabilities") { $0.capabilities.addCapabilities = ["CAP_FLY"] }
        refuses("capabilities") { $0.capabilities.addAmbientCapabilities = ["FLY"] }
    }

    private func device(_ host: String, _ container: String, _ permissions: String) throws -> ContainerSpec {
        try spec {
            $0.devices = [
                .with {
                    $0.hostPath = host
                    $0.containerPath = container
                    $0.permissions = permissions
                }
            ]
        }
    }

    @Test func malformedDevicesAreRefusedByName() throws {
        let given = try device("/dev/fuse", "/dev/other", "rw").security.devices
        #expect(given == [ContainerDevice(hostPath: "/dev/fuse", containerPath: "/dev/other", access: "rw")])
        for (host, container, permissions, code) in [
            ("/dev/no-such-device", "/dev/x", "rwm", SwiftletError.Code.invalidArgument),
            ("/dev/fuse", "relative", "rwm", .invalidArgument),
            ("/dev/fuse", "/dev/fuse", "rx", .invalidArgument), ("/dev/fuse", "/dev/../etc", "rwm", .invalidArgument),
        ] {
            let error = #expect(throws: SwiftletError.self) { try device(host, container, permissions) }
            #expect(error?.code == code && error?.message.contains("config.devices") == true, "\(host): \(String(describing: error))")
        }
    }

    /// As containerd has it: the field's come before those of device plug-ins' annotations, and each counts once.
    @Test func devicesOfTheContainerDeviceInterfaceComeByFieldAndAnnotation() throws {
        #expect(try spec { _ in }.security.cdiDevices == nil)
        let given = try spec {
            $0.cdiDevices = [.with { $0.name = "vendor.com/gpu=all" }]
            $0.annotations = [
                "cdi.k8s.io/b": "other.org/nic_x=0:1,vendor.com/gpu=all", "cdi.k8s.io/a": "vendor.com/gpu=1", "other": "no device",
            ]
        }
        #expect(
            given.security.cdiDevices?.map(\.qualified) == ["vendor.com/gpu=all", "vendor.com/gpu=1", "other.org/nic_x=0:1"])
        for name in [
            "", "gpu0", "vendor.com/gpu", "gpu=0", "vendor.com/gpu=", "vendor.com/a/b=0", "1vendor/gpu=0", "vendor.com/gpu=-", "v/c=a b",
        ] {
            for field in ["config.CDI_devices", "config.annotations cdi.k8s.io/x"] {
                let error = #expect(throws: SwiftletError.self, "\(name)") {
                    try spec {
                        if field.hasSuffix("x") {
                            $0.annotations["cdi.k8s.io/x"] = name
                        } else {
                            $0.cdiDevices = [.with { $0.name = name }]
                        }
                    }
                }
                #expect(error?.code == .invalidArgument && error?.message.contains(field) == true, "\(String(describing: error))")
            }
        }
    }
}
