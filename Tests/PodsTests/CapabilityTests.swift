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
}
