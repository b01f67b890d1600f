import Errors
import Runtime

/// Runs a chain of plugins for one pod: section 4 of the CNI specification.
struct CNIChain: Sendable {
    let network: CNINetworkList
    let configuration: CNIConfiguration

    /// ADD through the chain, each plugin given the result of the one before; `progress` gets every result at once.
    func add(_ request: PodNetworkRequest, progress: (JSONValue?) async throws -> Void) async throws -> JSONValue? {
        // Found before the first one runs: a missing plugin leaves nothing to undo.
        let plugins = try network.plugins.map { try (CNIPlugin($0["type"]?.string ?? "", configuration: configuration), $0) }
        var previous: JSONValue?
        for (plugin, settings) in plugins {
            let answer = try await plugin.run(
                .add, stdin: stdin(settings, previous: previous, request), request: request, namespacePath: request.namespacePath)
            guard let answer, answer.object != nil else {
                throw SwiftletError(.internal, "pod \(request.podID): CNI plugin \(plugin.type) printed no result for ADD")
            }
            previous = answer
            try await progress(answer)
        }
        return previous
    }

    /// CHECK through the chain; nothing where the version has no CHECK or the configuration switches it off.
    func check(_ request: PodNetworkRequest, previous: JSONValue?) async throws {
        guard network.knowsCheck, !network.disableCheck else { return }
        for settings in network.plugins {
            let plugin = try CNIPlugin(settings["type"]?.string ?? "", configuration: configuration)
            _ = try await plugin.run(
                .check, stdin: stdin(settings, previous: previous, request), request: request, namespacePath: request.namespacePath)
        }
    }

    /// DEL through the chain, last plugin first. The first failure ends it: the address must not be given back while
    /// rules of a later plugin still point to it.
    ///
    /// - Parameter namespacePath: empty when the namespace is gone.
    func delete(_ request: PodNetworkRequest, namespacePath: String, previous: JSONValue?) async throws {
        for settings in network.plugins.reversed() {
            let plugin = try CNIPlugin(settings["type"]?.string ?? "", configuration: configuration)
            _ = try await plugin.run(
                .delete, stdin: stdin(settings, previous: network.knowsCheck ? previous : nil, request), request: request,
                namespacePath: namespacePath)
        }
    }

    /// How long one plugin may take to say whether it can attach pods. A kubelet waits for the answer.
    private static let statusDeadline = Duration.seconds(5)
    private static let garbageDeadline = Duration.seconds(20)

    /// STATUS through the chain; nothing where the version has none.
    ///
    /// - Throws: why pods cannot be attached now.
    func status() async throws {
        guard network.knowsStatusAndGC else { return }
        for settings in network.plugins {
            let plugin = try CNIPlugin(settings["type"]?.string ?? "", configuration: configuration)
            try await plugin.run(.status, stdin: stdin(settings), deadline: Self.statusDeadline)
        }
    }

    /// GC through the chain: the plugins release what is of no attachment that is named. Every plugin is asked.
    ///
    /// - Throws: the first plugin's error.
    func collectGarbage(besides valid: [PodNetworkRequest]) async throws {
        guard network.knowsStatusAndGC, network.disableGC != true else { return }
        let attachments = JSONValue.array(
            valid.map { .object(["containerID": .string($0.podID), "ifname": .string($0.interfaceName)]) })
        var failure: (any Error)?
        for settings in network.plugins {
            do {
                let plugin = try CNIPlugin(settings["type"]?.string ?? "", configuration: configuration)
                var members = stdin(settings).object ?? [:]
                // The second name is that of the specification's first text, which plugins may go by.
                for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] { members[key] = attachments }
                try await plugin.run(.collectGarbage, stdin: .object(members), deadline: Self.garbageDeadline)
            } catch {
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
    }

    private func stdin(_ settings: JSONValue) -> JSONValue {
        var members = settings.object ?? [:]
        members["name"] = .string(network.name)
        members["cniVersion"] = .string(network.cniVersion)
        return .object(members)
    }

    private func stdin(_ settings: JSONValue, previous: JSONValue?, _ request: PodNetworkRequest) throws -> JSONValue {
        var members = stdin(settings).object ?? [:]
        members["prevResult"] = previous
        let capabilities = members["capabilities"]?.object?.filter { $0.value.bool == true } ?? [:]
        let runtime = request.runtimeConfiguration.filter { capabilities[$0.key] != nil }
        if !runtime.isEmpty { members["runtimeConfig"] = .object(runtime) }
        return .object(members)
    }
}

extension PodNetworkRequest {
    /// The capability arguments of CNI's CONVENTIONS.md that this request can fill.
    fileprivate var runtimeConfiguration: [String: JSONValue] {
        var values: [String: JSONValue] = [:]
        let published = portMappings.filter { $0.hostPort != 0 }
        if !published.isEmpty { values["portMappings"] = .array(published.map(\.json)) }
        if let bandwidth { values["bandwidth"] = bandwidth.json }
        if let dns {
            values["dns"] = .object([
                "servers": .strings(dns.nameservers), "searches": .strings(dns.search), "options": .strings(dns.options),
            ])
        }
        if !annotations.isEmpty { values["io.kubernetes.cri.pod-annotations"] = .object(annotations.mapValues { .string($0) }) }
        if let cgroupParent { values["cgroupPath"] = .string(cgroupParent) }
        return values
    }
}

extension PortMapping {
    fileprivate var json: JSONValue {
        var members: [String: JSONValue] = [
            "hostPort": .integer(Int64(hostPort)), "containerPort": .integer(Int64(containerPort)),
            "protocol": .string(transport.rawValue),
        ]
        if let hostIP { members["hostIP"] = .string(hostIP) }
        return .object(members)
    }
}

extension Bandwidth {
    /// The plug-in wants a burst with every rate; without one given, the most that it accepts.
    fileprivate var json: JSONValue {
        var members: [String: JSONValue] = [:]
        for (name, rate, burst) in [("ingress", ingressRate, ingressBurst), ("egress", egressRate, egressBurst)] {
            guard let rate else { continue }
            members["\(name)Rate"] = .integer(rate)
            members["\(name)Burst"] = .integer(burst ?? Int64(Int32.max))
        }
        return .object(members)
    }
}

extension JSONValue {
    fileprivate static func strings(_ values: [String]) -> JSONValue { .array(values.map { .string($0) }) }
}
