import Linux

/// capabilities(7) by name.
public enum Capability {
    package static let all = KernelCapabilities.names
    private static let everything = "CAP_ALL"

    /// Whether `name`, with or without the prefix, is "ALL" or a capability of the guest's kernel.
    public static func exists(_ name: String) -> Bool {
        let name = qualified(name)
        return name == everything || all.contains(name)
    }

    /// Full names, "ALL" as all of them.
    package static func qualified(_ names: [String]) -> [String] {
        let names = names.map(qualified)
        return names.contains(everything) ? all : names
    }

    private static func qualified(_ name: String) -> String {
        let upper = name.uppercased()
        return upper.hasPrefix("CAP_") ? upper : "CAP_" + upper
    }

    /// What a container has. First "ALL" counts, an addition before a removal; then each addition, then each removal by name, so
    /// that what is removed by its own name stays removed.
    package static func held(_ request: ContainerSpec.Capabilities, privileged: Bool) -> [String] {
        let added = (request.add + request.ambient).map(qualified)
        let dropped = request.drop.map(qualified)
        var held = Set(privileged || added.contains(everything) ? all : DefaultCapabilities.names)
        if !privileged, dropped.contains(everything) { held = [] }
        held.formUnion(added)
        held.subtract(privileged ? [] : dropped)
        return all.filter(held.contains)
    }
}
