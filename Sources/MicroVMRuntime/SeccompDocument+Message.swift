import AgentProtocol
import Errors
import Linux
import Runtime

extension SeccompDocument {
    /// seccomp(2) knows the name of an architecture, an action or an operator as libseccomp spells it.
    private static let architectureNames: Set<String> = [
        "X86", "X86_64", "X32", "ARM", "AARCH64", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PPC", "PPC64",
        "PPC64LE", "S390", "S390X", "PARISC", "PARISC64", "RISCV64",
    ]

    /// The machines whose system calls a guest of this node can make.
    private static let native = Platform.current.seccompArchitecture
    private static let runnable = Set([native] + Platform.current.otherSeccompArchitectures)

    private static let actions: [String: AgentSeccompAction.Kind] = [
        "SCMP_ACT_KILL": .killThread, "SCMP_ACT_KILL_THREAD": .killThread, "SCMP_ACT_KILL_PROCESS": .killProcess, "SCMP_ACT_TRAP": .trap,
        "SCMP_ACT_ERRNO": .errno, "SCMP_ACT_TRACE": .trace, "SCMP_ACT_LOG": .log, "SCMP_ACT_ALLOW": .allow,
    ]

    private static let operators: [String: AgentSeccompArgument.Comparison] = [
        "SCMP_CMP_NE": .notEqual, "SCMP_CMP_LT": .less, "SCMP_CMP_LE": .lessOrEqual, "SCMP_CMP_EQ": .equal,
        "SCMP_CMP_GE": .greaterOrEqual, "SCMP_CMP_GT": .greater, "SCMP_CMP_MASKED_EQ": .maskedEqual,
    ]

    private static let flagNames: Set<String> = [
        "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    ]

    /// EPERM of errno(3), which an ERRNO action without a number means.
    private static let notPermitted: UInt32 = 1
    private static let highestErrno: UInt32 = 4095

    /// The profile as the guest takes it. Names of system calls are left to the guest, which knows its kernel's.
    ///
    /// - Throws: `.invalidArgument` naming what is unknown; `.unimplemented` for what needs a listener on the node.
    func message() throws -> AgentSeccompProfile {
        if let listenerPath, !listenerPath.isEmpty {
            throw SwiftletError(.unimplemented, "listenerPath: a process of the node cannot answer for a container in a machine")
        }
        for flag in flags ?? [] where !Self.flagNames.contains(flag) {
            throw SwiftletError(.invalidArgument, "flags: \(quoted(flag)) is unknown or needs a listener")
        }
        let standard = try Self.action(defaultAction, errno: defaultErrnoRet, "defaultAction")
        var rules: [AgentSeccompRule] = []
        for (index, rule) in (syscalls ?? []).enumerated() { rules.append(try Self.message(rule, "syscalls[\(index)]")) }
        return try .with {
            $0.defaultAction = standard
            $0.architectures = try machines()
            $0.flags = flags ?? []
            $0.rules = rules
        }
    }

    /// Those of a guest of this node; others are checked and left out.
    private func machines() throws -> [String] {
        var names = architectures ?? []
        for entry in archMap ?? [] {
            try Self.checkArchitecture(entry.architecture)
            try (entry.subArchitectures ?? []).forEach(Self.checkArchitecture)
            if entry.architecture == Self.native { names += [entry.architecture] + (entry.subArchitectures ?? []) }
        }
        try names.forEach(Self.checkArchitecture)
        return names.filter(Self.runnable.contains)
    }

    private static func checkArchitecture(_ name: String) throws {
        let prefix = "SCMP_ARCH_"
        guard name.hasPrefix(prefix), architectureNames.contains(String(name.dropFirst(prefix.count))) else {
            throw SwiftletError(.invalidArgument, "architecture \(quoted(name)) is unknown")
        }
    }

    private static func action(_ name: String, errno: UInt32?, _ field: String) throws -> AgentSeccompAction {
        guard let kind = actions[name] else {
            if name == "SCMP_ACT_NOTIFY" {
                throw SwiftletError(.unimplemented, "\(field): a process of the node cannot answer for a container in a machine")
            }
            throw SwiftletError(.invalidArgument, "\(field): action \(quoted(name)) is unknown")
        }
        let data = errno ?? notPermitted
        if kind == .errno, data > highestErrno {
            throw SwiftletError(.invalidArgument, "\(field): error number \(data) is above \(highestErrno)")
        }
        return .with {
            $0.kind = kind
            $0.data = kind == .errno || kind == .trace ? data : 0
        }
    }

    private static func message(_ rule: Rule, _ field: String) throws -> AgentSeccompRule {
        let names = (rule.names ?? []) + (rule.name.map { [$0] } ?? [])
        guard !names.isEmpty, !names.contains("") else { throw SwiftletError(.invalidArgument, "\(field) names no system call") }
        let action = try action(rule.action, errno: rule.errnoRet, "\(field).action")
        if let name = rule.errno, rule.errnoRet == nil, name != "EPERM" {
            throw SwiftletError(
                .invalidArgument, "\(field).errno \(quoted(name)): give the error's number as errnoRet")
        }
        let arguments = try (rule.args ?? []).map { argument in
            guard argument.index <= 5, let comparison = operators[argument.op] else {
                throw SwiftletError(
                    .invalidArgument, "\(field).args: index \(argument.index) or operator \(quoted(argument.op)) is unknown")
            }
            return AgentSeccompArgument.with {
                $0.index = argument.index
                $0.comparison = comparison
                $0.value = argument.value
                $0.valueTwo = argument.valueTwo ?? 0
            }
        }
        return .with {
            $0.names = names
            $0.action = action
            $0.arguments = arguments
            if let condition = rule.includes { $0.includes = message(condition) }
            if let condition = rule.excludes { $0.excludes = message(condition) }
        }
    }

    private static func message(_ condition: Condition) -> AgentSeccompCondition {
        .with {
            $0.capabilities = condition.caps ?? []
            $0.architectures = condition.arches ?? []
            $0.minimumKernel = condition.minKernel ?? ""
        }
    }
}

extension SeccompPlan {
    /// The profile as the guest takes it.
    ///
    /// - Throws: `.invalidArgument` naming the file and the place in it.
    func message() throws -> AgentSeccompProfile {
        switch self {
        case .runtimeDefault: return .with { $0.runtimeDefault = true }
        case .profile(let document, let path):
            do {
                return try document.message()
            } catch {
                throw SwiftletError(.invalidArgument, "seccomp profile \(path)", cause: error)
            }
        }
    }
}
