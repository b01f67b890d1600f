import AgentProtocol
import Errors
import Foundation
import Linux
import Testing

@testable import MicroVMRuntime
@testable import Pods
@testable import Runtime

/// Seccomp profiles of the node, as the guest gets them.
@Suite struct SeccompProfileTests {
    private func message(_ json: String) throws -> AgentSeccompProfile {
        try SeccompDocument.decode(Data(json.utf8)).message()
    }

    private func refusal(_ json: String) -> SwiftletError? {
        #expect(throws: SwiftletError.self) { try message(json) }
    }

    @Test func aProfileOfTheOCISpecificationIsTakenWhole() throws {
        let profile = try message(
            """
            {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "flags": ["SECCOMP_FILTER_FLAG_LOG"],
             "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64", "SCMP_ARCH_S390X"],
             "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
              {"names": ["socket"], "action": "SCMP_ACT_ERRNO",
               "args": [{"index": 0, "value": 18446744073709551615, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]}]}
            """)
        #expect(profile.defaultAction.kind == .errno && profile.defaultAction.data == 38)
        #expect(profile.flags == ["SECCOMP_FILTER_FLAG_LOG"])
        // A guest of another machine's numbers does not exist here.
        #expect(!profile.architectures.contains("SCMP_ARCH_S390X") && !profile.architectures.isEmpty)
        #expect(profile.rules.map(\.names) == [["read", "write"], ["socket"]])
        #expect(profile.rules[0].action.kind == .allow)
        #expect(profile.rules[1].action.data == 1)
        #expect(profile.rules[1].arguments[0].value == .max && profile.rules[1].arguments[0].comparison == .maskedEqual)
    }

    @Test func whatDockersProfilesAddIsTakenToo() throws {
        let profile = try message(
            """
            {"defaultAction": "SCMP_ACT_ERRNO", "archMap": [
               {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
               {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
             "syscalls": [{"name": "ptrace", "action": "SCMP_ACT_ALLOW", "args": null, "comment": "",
               "includes": {"minKernel": "4.8", "caps": ["CAP_SYS_PTRACE"]}, "excludes": {"arches": ["s390"]}}]}
            """)
        #expect(profile.architectures.count == 2)
        #expect(profile.rules[0].names == ["ptrace"])
        #expect(profile.rules[0].includes.minimumKernel == "4.8" && profile.rules[0].includes.capabilities == ["CAP_SYS_PTRACE"])
        #expect(profile.rules[0].excludes.architectures == ["s390"])
    }

    @Test(arguments: [
        ("{\"defaultAction\":", "not JSON"), ("", "not JSON"), ("[]", "another type"), ("{}", "defaultAction"),
        ("{\"defaultAction\": \"SCMP_ACT_HOPE\"}", "SCMP_ACT_HOPE"), ("{\"defaultAction\": \"SCMP_ACT_NOTIFY\"}", "defaultAction"),
        ("{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"architectures\": [\"SCMP_ARCH_PDP11\"]}", "SCMP_ARCH_PDP11"),
        ("{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"archMap\": [{\"architecture\": \"VAX\"}]}", "VAX"),
        ("{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"flags\": [\"SOME_FLAG\"]}", "SOME_FLAG"),
        ("{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"listenerPath\": \"/run/x\"}", "listenerPath"),
        ("{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 70000}", "70000"),
        ("{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"action\": \"SCMP_ACT_ALLOW\"}]}", "syscalls[0]"),
        ("{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"x\"], \"action\": \"allow\"}]}", "syscalls[0].action"),
        (
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"x\"], \"action\": \"SCMP_ACT_KILL\", "
                + "\"args\": [{\"index\": 9, \"value\": 0, \"op\": \"SCMP_CMP_EQ\"}]}]}", "syscalls[0].args"
        ),
        (
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"x\"], \"action\": \"SCMP_ACT_KILL\", "
                + "\"args\": [{\"index\": 0, \"value\": 0, \"op\": \"==\"}]}]}", "=="
        ),
    ])
    func whatIsNoProfileIsRefusedByItsPlace(json: String, named: String) {
        let error = refusal(json)
        #expect(error?.message.contains(named) == true, "\(json): \(String(describing: error))")
    }

    @Test func filesThatAreNoProfilesAreRefusedByPath() async throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("seccomp-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let large = directory.appendingPathComponent("large").path
        FileManager.default.createFile(atPath: large, contents: Data(count: SeccompProfileFile.largest + 1))
        let fifo = directory.appendingPathComponent("fifo").path
        mkfifo(fifo, 0o600)
        for (path, code) in [
            (large, SwiftletError.Code.invalidArgument), (fifo, .invalidArgument), (directory.path, .invalidArgument),
            (directory.path + "/none", .notFound),
        ] {
            let error = await #expect(throws: SwiftletError.self) { try await SeccompProfileFile.load(path) }
            #expect(error?.code == code && error?.message.contains(path) == true, "\(String(describing: error))")
        }
        let good = directory.appendingPathComponent("good").path
        FileManager.default.createFile(atPath: good, contents: Data("{\"defaultAction\": \"SCMP_ACT_LOG\"}".utf8))
        #expect(try await SeccompProfileFile.load(good).defaultAction == "SCMP_ACT_LOG")
    }
}

/// The set that a container holds for what its client adds and drops.
@Suite struct CapabilityTests {
    private func held(_ add: [String], _ drop: [String], ambient: [String] = [], privileged: Bool = false) -> Set<String> {
        Set(Capability.held(.init(add: add, drop: drop, ambient: ambient), privileged: privileged))
    }

    @Test func additionsAndRemovalsCountInTheOrderOfOtherRuntimes() {
        let standard = Set(DefaultCapabilities.names)
        #expect(held([], []) == standard)
        #expect(held(["net_admin"], ["CHOWN"]) == standard.union(["CAP_NET_ADMIN"]).subtracting(["CAP_CHOWN"]))
        #expect(held(["ALL"], []) == Set(Capability.all))
        #expect(held(["all"], ["SYS_ADMIN"]) == Set(Capability.all).subtracting(["CAP_SYS_ADMIN"]))
        #expect(held([], ["ALL"]) == [])
        #expect(held(["CAP_NET_BIND_SERVICE"], ["all"]) == ["CAP_NET_BIND_SERVICE"])
        #expect(held(["ALL"], ["ALL"]) == [])
        #expect(held(["CHOWN"], ["CHOWN"]) == standard.subtracting(["CAP_CHOWN"]))
        #expect(held([], ["ALL"], ambient: ["NET_RAW"]) == ["CAP_NET_RAW"])
        #expect(held([], ["ALL"], privileged: true) == Set(Capability.all))
    }

    @Test func namesAreKnownWithAndWithoutPrefixInAnyCase() {
        for name in ["ALL", "all", "CAP_CHOWN", "chown", "cap_bpf"] { #expect(Capability.exists(name)) }
        for name in ["", "CAP_", "CAP_FLY", "CHOWN "] { #expect(!Capability.exists(name)) }
    }
}
