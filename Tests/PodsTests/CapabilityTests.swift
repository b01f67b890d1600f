import Errors
import Testing

@testable import Runtime

/// What a handler does not have is refused by the field that asks for it.
@Suite(.timeLimit(.minutes(1))) struct HandlerCapabilitiesTests {
    private func refusal(with capabilities: HandlerCapabilities = .init(), _ change: (inout SandboxSpec) -> Void) -> SwiftletError? {
        var spec = SandboxSpec(metadata: .init(name: "pod", uid: "u", namespace: "n", attempt: 0))
        change(&spec)
        do {
            try capabilities.check(spec, handler: "microvm")
            return nil
        } catch {
            return error as? SwiftletError
        }
    }

    @Test func aSandboxIsRefusedByTheFieldThatItsHandlerDoesNotHave() throws {
        #expect(refusal({ _ in }) == nil)
        let cases: [(String, (inout SandboxSpec) -> Void)] = [
            ("namespace_options.network", { $0.networkMode = .node }), ("namespace_options.pid", { $0.nodeNamespaces = [.pid] }),
            ("namespace_options.ipc", { $0.nodeNamespaces = [.ipc] }),
            ("userns_options", { $0.userNamespace = IDMappings(uids: [], gids: []) }),
        ]
        var all = HandlerCapabilities()
        (all.networkModes, all.nodeNamespaces, all.userNamespaces) = ([.pod, .node], [.pid, .ipc], true)
        for (field, change) in cases {
            let error = refusal(change)
            #expect(error?.code == .invalidArgument && error?.message.contains(field) == true, "\(field): \(String(describing: error))")
            #expect(error?.message.contains("microvm") == true)
            #expect(refusal(with: all, change) == nil, "\(field)")
        }
    }

    @Test func aContainerIsRefusedByTheFieldThatItsHandlerDoesNotHave() throws {
        var capabilities = HandlerCapabilities()
        capabilities.devices = ["/dev/fuse"]
        var spec = ContainerSpec(metadata: .init(name: "c", attempt: 0), image: "i")
        spec.security.devices = [ContainerDevice(hostPath: "/dev/fuse", containerPath: "/dev/fuse", access: "rw")]
        try capabilities.check(spec, handler: "microvm")
        spec.security.devices.append(ContainerDevice(hostPath: "/dev/kvm", containerPath: "/dev/kvm", access: "rw"))
        let device = #expect(throws: SwiftletError.self) { try capabilities.check(spec, handler: "microvm") }
        #expect(device?.code == .unimplemented && device?.message.contains("config.devices: \"/dev/kvm\"") == true)
        capabilities.devices = nil
        try capabilities.check(spec, handler: "host")
        spec.pidMode = .node
        let pid = #expect(throws: SwiftletError.self) { try capabilities.check(spec, handler: "host") }
        #expect(pid?.message.contains("namespace_options.pid") == true)
        capabilities.nodeNamespaces = [.pid]
        try capabilities.check(spec, handler: "host")
    }

    @Test func mountsThatReachTheNodeAreRefusedWhereTheyCannot() throws {
        var spec = ContainerSpec(metadata: .init(name: "c", attempt: 0), image: "i")
        var mount = ContainerMount(containerPath: "/m")
        mount.propagation = .bidirectional
        spec.mounts = [mount]
        var capabilities = HandlerCapabilities()
        let refused = #expect(throws: SwiftletError.self) { try capabilities.check(spec, handler: "microvm") }
        #expect(refused?.code == .invalidArgument && refused?.message.contains("PROPAGATION_BIDIRECTIONAL") == true)
        capabilities.bidirectionalMounts = true
        try capabilities.check(spec, handler: "host")
    }

    @Test func policiesAndHugePagesAreRefusedAsUnimplemented() throws {
        let cases: [(String, (inout ContainerSpec) -> Void)] = [
            ("security_context.apparmor \"mine\"", { $0.security.policies = SecurityPolicies(appArmorProfile: "mine") }),
            ("security_context.selinux_options.type \"my_t\"", { $0.security.policies = SecurityPolicies(selinuxType: "my_t") }),
            ("config.CDI_devices \"vendor.com/gpu=0\"", { $0.security.cdiDevices = ["vendor.com/gpu=0"].compactMap(CDIDevice.init(_:)) }),
            ("resources.hugepage_limits \"2MB\"", { $0.resources.hugepageLimits = [.init(pageSize: "2MB", limit: 1 << 21)] }),
        ]
        var all = HandlerCapabilities()
        (all.securityPolicies, all.hugePages, all.cdiDevices) = ([.appArmor, .selinux], true, true)
        for (field, change) in cases {
            var spec = ContainerSpec(metadata: .init(name: "c", attempt: 0), image: "i")
            change(&spec)
            let error = #expect(throws: SwiftletError.self, "\(field)") { try HandlerCapabilities().check(spec, handler: "microvm") }
            #expect(error?.code == .unimplemented && error?.message.contains(field) == true, "\(String(describing: error))")
            try all.check(spec, handler: "host")
        }
        for change: (inout SandboxSpec) -> Void in [
            { $0.policies = SecurityPolicies(appArmorProfile: "mine") },
            { $0.resources = LinuxResources.hugePage }, { $0.overhead = LinuxResources.hugePage },
        ] {
            #expect(refusal(change)?.code == .unimplemented)
            #expect(refusal(with: all, change) == nil)
        }
        var none = LinuxResources.hugePage
        none.hugepageLimits[0].limit = 0
        try HandlerCapabilities().check(none, "linux", handler: "microvm")
    }
}

extension LinuxResources {
    fileprivate static var hugePage: LinuxResources {
        var resources = LinuxResources()
        resources.hugepageLimits = [.init(pageSize: "2MB", limit: 1 << 21)]
        return resources
    }

    @Test func anImageIsRefusedWhoseContentItsHandlerCannotRun() throws {
        let layers = ImageContent.layers([LayerImage(path: "/l", serial: "1", filesystem: "erofs", sizeBytes: 4096)])
        let disk = ImageContent.disk(DiskImage(path: "/d", format: .qcow2, virtualSize: 1 << 30, digest: "sha256:00"))
        var machines = HandlerCapabilities()
        machines.images = [.disk]
        for (capabilities, handler, taken, refused, way) in [
            (HandlerCapabilities(), "microvm", layers, disk, "handler is vm"), (machines, "vm", disk, layers, "microvm"),
        ] {
            #expect(throws: Never.self) { try capabilities.check(taken, image: "i", handler: handler) }
            let error = #expect(throws: SwiftletError.self) { try capabilities.check(refused, image: "example.org/i", handler: handler) }
            #expect(error?.code == .invalidArgument)
            for word in ["example.org/i", handler, way] { #expect(error?.message.contains(word) == true, "\(word)") }
        }
    }
}
