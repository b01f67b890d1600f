import Errors
import Glibc
import Runtime

extension RuntimeSpec.Seccomp {
    /// A profile as a runtime takes it: what Docker's profiles make dependent on capabilities, machine and kernel is decided here.
    ///
    /// - Parameter held: the container's capabilities.
    /// - Throws: `.invalidArgument` naming what the profile says that no runtime takes.
    init(_ document: SeccompDocument, held: Set<String>) throws {
        guard document.listenerPath == nil else {
            throw SwiftletError(.unimplemented, "listenerPath: nobody listens for the system calls of containers on the node")
        }
        defaultAction = document.defaultAction
        defaultErrnoRet = document.defaultErrnoRet
        // x86-64 with its 32-bit forms; what the profile says of other machines is theirs.
        let own = document.archMap?.first { $0.architecture == "SCMP_ARCH_X86_64" }
        architectures = document.architectures ?? own.map { [$0.architecture] + ($0.subArchitectures ?? []) } ?? ["SCMP_ARCH_X86_64"]
        flags = document.flags
        syscalls = try (document.syscalls ?? []).enumerated().compactMap { index, rule in
            guard try Self.applies(rule, held, index) else { return nil }
            let names = rule.names ?? rule.name.map { [$0] } ?? []
            guard rule.errno == nil else {
                throw SwiftletError(.unimplemented, "syscalls[\(index)].errno: write the number as errnoRet")
            }
            return Rule(
                names: names, action: rule.action, errnoRet: rule.errnoRet,
                args: rule.args.map { arguments in
                    arguments.map { Argument(index: $0.index, value: $0.value, valueTwo: $0.valueTwo ?? 0, op: $0.op) }
                })
        }
    }

    private static func applies(_ rule: SeccompDocument.Rule, _ held: Set<String>, _ index: Int) throws -> Bool {
        if let includes = rule.includes, !includes.isEmpty {
            if let caps = includes.caps, !caps.allSatisfy(held.contains) { return false }
            if let arches = includes.arches, !arches.contains("amd64") { return false }
            if let kernel = includes.minKernel, try !isReached(kernel, index) { return false }
        }
        if let excludes = rule.excludes, !excludes.isEmpty {
            if let caps = excludes.caps, caps.contains(where: held.contains) { return false }
            if let arches = excludes.arches, arches.contains("amd64") { return false }
            if let kernel = excludes.minKernel, try isReached(kernel, index) { return false }
        }
        return true
    }

    /// - Parameter kernel: "4.8".
    private static func isReached(_ kernel: String, _ index: Int) throws -> Bool {
        let wanted = kernel.split(separator: ".").prefix(2).compactMap { Int($0) }
        guard wanted.count == 2 else {
            throw SwiftletError(.invalidArgument, "syscalls[\(index)]: minKernel \(quoted(kernel)) is no version")
        }
        var names = utsname()
        uname(&names)
        let release = withUnsafeBytes(of: names.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        let own = release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
        guard own.count == 2 else { return false }
        return (own[0], own[1]) >= (wanted[0], wanted[1])
    }
}

extension SeccompDocument.Condition {
    fileprivate var isEmpty: Bool { caps == nil && arches == nil && minKernel == nil }
}
