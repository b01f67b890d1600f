import AgentProtocol
import Errors
import Linux
import Testing

/// Which system calls a container may make.
@Suite struct ContainerSeccompTests {
    private let image = TestImage.plain

    private func profile(_ kind: AgentSeccompAction.Kind, _ data: UInt32 = 0, _ rules: [AgentSeccompRule] = []) -> AgentSeccompProfile {
        .with {
            $0.defaultAction.kind = kind
            $0.defaultAction.data = data
            $0.rules = rules
        }
    }

    private func rule(_ names: String..., kind: AgentSeccompAction.Kind, data: UInt32 = 0) -> AgentSeccompRule {
        .with {
            $0.names = names
            $0.action.kind = kind
            $0.action.data = data
        }
    }

    @Test func aProfileThatTrapsTheCommandsOwnExecutionIsToldByTheStart() async throws {
        let error = try await refusal(profile(.allow, 0, [rule("execve", "execveat", kind: .trap)]))
        #expect(error?.code == .invalidArgument)
    }

    private func refusal(_ profile: AgentSeccompProfile) async throws -> SwiftletError? {
        var refusal: SwiftletError?
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("true")
            spec.process.seccomp = profile
            do {
                try await probe.launch("c", spec)
            } catch let error as SwiftletError {
                refusal = error
            }
            try await probe.send("release", "c")
            try await probe.send("share-release")
            #expect(try await probe.held().hasPrefix("mounts=0 containers=[] trash=[] cgroups=[]"))
        }
        return refusal
    }

    @Test func theDefaultProfileLetsProgramsRunAndKeepsNamespacesAndMountsFromThem() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            let script = """
                grep Seccomp: /proc/self/status
                mount -t tmpfs tmpfs /tmp 2>/dev/null || echo no mount
                chown 5:5 /tmp && mknod /tmp/node p && (sleep 0; ls -l /tmp | wc -l)
                """
            var spec = image.shell(script)
            spec.process.seccomp.runtimeDefault = true
            spec.process.capabilities.bounding = DefaultCapabilities.names
            #expect(try await probe.run(spec).stdout == "Seccomp:\t2\nno mount\n2\n")
        }
    }

    @Test func theDefaultProfileFollowsTheCapabilities() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell("mount -t tmpfs tmpfs /tmp && echo mounted")
            let names = DefaultCapabilities.names + ["CAP_SYS_ADMIN"]
            spec.process.capabilities.bounding = names
            spec.process.capabilities.permitted = names
            spec.process.capabilities.effective = names
            spec.process.seccomp.runtimeDefault = true
            #expect(try await probe.run(spec).stdout == "mounted\n")
        }
    }

    @Test(arguments: [false, true])
    func aProfileHoldsForTheFirstProcessAndForExec(withNoNewPrivileges: Bool) async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell("mkdir /tmp/a; echo $?; sleep 1000")
            spec.process.noNewPrivileges = withNoNewPrivileges
            spec.process.user.name = "app"
            spec.process.capabilities.effective = []
            spec.process.seccomp = profile(.allow, 0, [rule("mkdir", "mkdirat", kind: .errno, data: 28)])
            try await probe.launch("c", spec)
            let outcome = try await probe.exec("c", ["sh", "-c", "mkdir /tmp/b; echo $? $(id -u); grep CapEff /proc/self/status"])
            #expect(outcome.stdout == "1 1000\nCapEff:\t0000000000000000\n")
            #expect(outcome.stderr.contains("No space left on device"))
        }
    }

    @Test func aProfileThatKillsEndsTheProcessWithSIGSYS() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("mkdir", "/tmp/a")
            spec.process.seccomp = profile(.allow, 0, [rule("mkdir", "mkdirat", kind: .killProcess)])
            #expect(try await probe.run(spec).code == 128 + 31)
        }
    }

    @Test func rulesCountByArgumentCapabilityMachineAndKernel() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell("chmod 700 /work; chmod 711 /work; chown 1 /work; touch /work; mkdir /d")
            var byMode = rule("chmod", "fchmodat", kind: .errno, data: 28)
            byMode.arguments = [
                .with {
                    $0.index = 1
                    $0.comparison = .equal
                    $0.value = 0o711
                }
            ]
            var withoutCapability = rule("chown", "fchownat", "lchown", kind: .errno, data: 30)
            withoutCapability.excludes.capabilities = ["CAP_CHOWN"]
            var elsewhere = rule("mkdir", "mkdirat", kind: .errno, data: 30)
            elsewhere.includes.architectures = ["s390x"]
            var later = rule("utimensat", kind: .errno, data: 30)
            later.includes.minimumKernel = "99.0"
            byMode.names = ["chmod"]
            spec.process.seccomp = profile(.allow, 0, [byMode, withoutCapability, elsewhere, later])
            let outcome = try await probe.run(spec)
            #expect(outcome.stderr.contains("chmod: /work: No space left on device"), "\(outcome.stderr)")
            #expect(outcome.stderr.split(separator: "\n").count == 1, "\(outcome.stderr)")
        }
    }

    @Test func unknownNamesAreRefusedOnlyWhereTheyWouldWeaken() async throws {
        let denied = try await refusal(profile(.allow, 0, [rule("mkdri", kind: .errno, data: 1)]))
        #expect(denied?.code == .invalidArgument && denied?.message.contains("mkdri") == true, "\(String(describing: denied))")
        let later = try await refusal(profile(.allow, 0, [rule("mseal", "fchmodat2", kind: .errno, data: 1)]))
        #expect(later == nil)
        let allowed = try await refusal(profile(.log, 0, [rule("not_a_call", kind: .allow)]))
        #expect(allowed == nil)
    }

    @Test func whatCannotBeCompiledIsNamed() async throws {
        var machine = profile(.allow)
        machine.architectures = ["SCMP_ARCH_PDP11"]
        #expect(try await refusal(machine)?.message.contains("SCMP_ARCH_PDP11") == true)
        var flag = profile(.allow)
        flag.flags = ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]
        #expect(try await refusal(flag)?.message.contains("NEW_LISTENER") == true)
        var argument = rule("open", kind: .errno)
        argument.arguments = [.with { $0.index = 6 }]
        #expect(try await refusal(profile(.allow, 0, [argument]))?.message.contains("argument 6") == true)
        #expect(try await refusal(profile(.errno, 5000))?.message.contains("5000") == true)
    }

    @Test func aProfileThatAllowsNothingFailsTheStartAndLeavesNothing() async throws {
        let refused = try await refusal(profile(.errno, 1, [rule("write", "exit_group", "exit", kind: .allow)]))
        #expect(refused?.message.contains("execute") == true, "\(String(describing: refused))")
    }
}
