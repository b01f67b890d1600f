import AgentProtocol
import CContainer
import Errors
import Glibc

/// A process spec that has been checked: everything that does not need the container's files.
struct ProcessPlan {
    static let defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    /// execve(2): a single argument may have 128 KiB (MAX_ARG_STRLEN).
    private static let longestArgument = 131_071

    var arguments: [String]
    /// "NAME=VALUE", whatever bytes a value has.
    var environment: [[UInt8]]
    var searchPath: [UInt8]
    var workingDirectory: String
    var user: AgentUser
    var capabilities: cc_capabilities
    var limits: [cc_rlimit]
    var noNewPrivileges: Bool
    var seccomp: AgentSeccompProfile?
    var oomScoreAdjustment: Int32?

    /// - Throws: `.invalidArgument` naming the field.
    init(_ spec: AgentProcessSpec) throws(SwiftletError) {
        arguments = try Self.arguments(spec)
        environment = spec.env.map { Array($0) }
        for variable in environment {
            guard variable.contains(0) || variable.count > Self.longestArgument else { continue }
            let name = quoted(String(decoding: variable.prefix { $0 != UInt8(ascii: "=") }, as: UTF8.self))
            let reason = variable.contains(0) ? "holds a NUL" : "is longer than \(Self.longestArgument) bytes"
            throw SwiftletError(.invalidArgument, "environment variable \(name) \(reason)")
        }
        if let path = Self.value(of: "PATH", in: environment) {
            searchPath = path
        } else {
            searchPath = Array(Self.defaultPath.utf8)
            environment.append(Array("PATH=\(Self.defaultPath)".utf8))
        }
        if spec.terminal && Self.value(of: "TERM", in: environment) == nil { environment.append(Array("TERM=xterm".utf8)) }
        workingDirectory = try containerPath(spec.cwd.isEmpty ? "/" : spec.cwd, "working directory")
        user = spec.user
        try requireText(user.name, "user", limit: 256)
        capabilities = try cc_capabilities(spec.capabilities, available: cc_permitted_capabilities())
        limits = []
        for limit in spec.rlimits { limits.append(try cc_rlimit(limit)) }
        noNewPrivileges = spec.noNewPrivileges
        seccomp = spec.hasSeccomp ? spec.seccomp : nil
        oomScoreAdjustment = spec.hasOomScoreAdj ? spec.oomScoreAdj : nil
        if let value = oomScoreAdjustment, !(-1000...1000).contains(value) {
            throw SwiftletError(.invalidArgument, "oom_score_adj \(value) is outside -1000...1000")
        }
    }

    /// The arguments of `spec`, checked alone: what an inheriting process takes from its own spec.
    static func arguments(_ spec: AgentProcessSpec) throws(SwiftletError) -> [String] {
        guard let command = spec.args.first, !command.isEmpty else {
            throw SwiftletError(.invalidArgument, "the process has no command: give it at least one argument")
        }
        for argument in spec.args { try requireText(argument, "argument", limit: longestArgument, isSecret: true) }
        return spec.args
    }

    /// The environment with HOME from the container's passwd file where none was given.
    func environment(home: String) -> [[UInt8]] {
        Self.value(of: "HOME", in: environment) == nil ? environment + [Array("HOME=\(home)".utf8)] : environment
    }

    private static func value(of name: String, in environment: [[UInt8]]) -> [UInt8]? {
        environment.last { $0.starts(with: "\(name)=".utf8) }.map { Array($0.dropFirst(name.utf8.count + 1)) }
    }

    /// The compiled seccomp profile; nil without one.
    /// - Throws: `.invalidArgument` naming what is wrong in it.
    func compileFilter() throws(SwiftletError) -> SeccompFilter? {
        guard let seccomp else { return nil }
        guard !seccomp.runtimeDefault else { return try DefaultSeccompProfile.filter(capabilities: capabilities.bounding) }
        return try SeccompCompiler(capabilities: capabilities.bounding).compile(seccomp)
    }

    /// The flat form for the C code, in `memory`.
    func flat(_ credentials: ProcessCredentials, stdio: ProcessDescriptors, memory: CMemory) -> cc_process {
        let user = credentials.user
        // The primary group as well: without it a set-group-ID program would escape permissions that deny that group.
        let groups = user.additionalGIDs.filter { $0 != user.gid } + [user.gid]
        return cc_process(
            arguments: memory.vector(arguments),
            environment: memory.vector(environment(home: credentials.home)),
            search_path: memory.string(searchPath),
            working_directory: memory.string(workingDirectory),
            uid: user.uid,
            gid: user.gid,
            groups: memory.array(groups),
            group_count: UInt32(groups.count),
            capabilities: capabilities,
            rlimits: memory.array(limits),
            rlimit_count: UInt32(limits.count),
            no_new_privileges: noNewPrivileges,
            filter: credentials.filter?.flat(memory),
            has_oom_score_adj: oomScoreAdjustment != nil,
            oom_score_adj: oomScoreAdjustment ?? 0,
            stdio: (stdio.stdin, stdio.stdout, stdio.stderr),
            stdio_owner: credentials.namespace?.guestUID(user.uid) ?? user.uid,
            terminal: stdio.terminal)
    }
}

/// What a process gets beside its own spec, from the container's files and its pod.
struct ProcessCredentials: Sendable {
    var user: ResolvedUser
    var home: String
    var filter: SeccompFilter?
    /// Nil: the guest's own users.
    var namespace: UserNamespace?

    /// Looks the plan's user up below the directory `root` and compiles its seccomp profile.
    /// - Throws: `.invalidArgument` for users that the image or the user namespace lacks and for a profile that cannot be used.
    init(_ plan: ProcessPlan, root: Int32, namespace: UserNamespace?) throws(SwiftletError) {
        let users = try UserDatabase(root: root)
        user = try users.resolve(plan.user)
        home = users.home(of: user.uid)
        filter = try plan.compileFilter()
        self.namespace = namespace
        try namespace?.require(user)
    }
}
