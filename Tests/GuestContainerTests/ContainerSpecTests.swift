import AgentProtocol
import Errors
import Foundation
import Testing

@testable import GuestAgent

/// What is refused before the machine is touched.
@Suite struct ContainerSpecTests {
    private let environment = SandboxEnvironment(
        scratchDirectory: "/scratch", diskPath: { (_) throws(SwiftletError) in "/dev/null" }, hostname: "pod",
        resolvConfPath: "/run/resolv.conf",
        hostsPath: "/run/hosts", cgroupRoot: "/sys/fs/cgroup",
        shared: PodSharedState(scratchDirectory: "/scratch", cgroupRoot: "/sys/fs/cgroup"))

    private func code(_ id: String = "c", _ change: (inout AgentContainerSpec) -> Void) -> SwiftletError.Code? {
        var spec = AgentContainerSpec()
        spec.root.layers = [
            .with {
                $0.serial = "a"; $0.filesystem = "erofs"
            }
        ]
        spec.process.args = ["sh"]
        change(&spec)
        do throws(SwiftletError) {
            _ = try GuestContainer(id: id, spec: spec, environment: environment)
            return nil
        } catch {
            return error.code
        }
    }

    @Test(arguments: [
        "", ".", "..", "../x", "a/b", "/a", "a\0b", "-a", "_a", "a b", "ä", String(repeating: "a", count: 129),
        String(repeating: "../", count: 4000),
    ])
    func idsThatAreNoNamesAreRefused(id: String) {
        #expect(code(id) { _ in } == .invalidArgument)
    }

    @Test func plainIdsAreTaken() {
        #expect(code("a") { _ in } == nil)
        #expect(code(String(repeating: "0", count: 128)) { _ in } == nil)
        #expect(code("pod_1.web-2") { _ in } == nil)
    }

    @Test func pathsMustBeAbsoluteAndWithoutNUL() {
        for path in ["", "relative", "../up", "/a\0b", "/" + String(repeating: "x", count: 5000)] {
            #expect(
                code {
                    $0.mounts = [
                        .with {
                            $0.type = "tmpfs"; $0.destination = path
                        }
                    ]
                } == .invalidArgument)
            #expect(
                code {
                    $0.mounts = [
                        .with {
                            $0.type = "bind"; $0.source = path; $0.destination = "/a"
                        }
                    ]
                } == .invalidArgument)
            #expect(code { $0.maskedPaths = [path] } == .invalidArgument)
            #expect(code { $0.readonlyPaths = [path] } == .invalidArgument)
            #expect(
                code {
                    $0.devices = [
                        .with {
                            $0.path = path; $0.type = "c"
                        }
                    ]
                } == .invalidArgument)
            if !path.isEmpty { #expect(code { $0.process.cwd = path } == .invalidArgument) }
        }
    }

    @Test func everyFieldIsChecked() {
        let wrong: [(inout AgentContainerSpec) -> Void] = [
            { $0.process.args = [] }, { $0.process.args = [""] }, { $0.process.args = ["a\0"] },
            { $0.process.env = ["A=\0"].map { Data($0.utf8) } },
            { $0.process.capabilities.bounding = ["CAP_FLY"] }, { $0.process.capabilities.effective = ["CAP_CHOWN"] },
            { $0.process.rlimits = [.init("RLIMIT_FUN", 1, 1)] }, { $0.process.rlimits = [.init("RLIMIT_CPU", 2, 1)] },
            { $0.process.oomScoreAdj = 1001 }, { $0.process.user.name = "a\0" }, { $0.root.layers = [] },
            { $0.root.layers[0].filesystem = "ext4" }, { $0.root.layers[0].serial = "\0" },
            {
                $0.mounts = [
                    .with {
                        $0.type = "tmpfs"; $0.destination = "/"
                    }
                ]
            },
            {
                $0.mounts = [
                    .with {
                        $0.type = "a/b"; $0.destination = "/x"
                    }
                ]
            },
            {
                $0.mounts = [
                    .with {
                        $0.type = "bind"; $0.source = "/a"; $0.destination = "/x"; $0.options = ["size=1"]
                    }
                ]
            },
            { $0.resources.unified = ["../memory.max": "1"] }, { $0.resources.unified = ["cgroup.procs": "1"] },
            { $0.resources.unified = ["": "1"] },
            {
                $0.devices = [
                    .with {
                        $0.path = "/dev/x"; $0.type = "p"
                    }
                ]
            }, { $0.maskedPaths = ["/"] },
            { $0.pidMode = .pidTarget },
            {
                $0.pidMode = .pidTarget; $0.pidTarget = "../a"
            }, { $0.pidMode = .UNRECOGNIZED(9) },
        ]
        for (index, change) in wrong.enumerated() { #expect(code("c", change) == .invalidArgument, "case \(index)") }
    }

    @Test(arguments: ["block", "Memory", "imagery", "overlay", "a/b", "..", "\0"])
    func aMountOfAnUnknownTypeIsRefusedByName(type: String) throws {
        for options in [["rw"], ["rbind"]] {
            let error = #expect(throws: SwiftletError.self) { try MountPlan(.init(type, from: "/etc", to: "/x", options)) }
            #expect(error?.code == .invalidArgument)
            #expect(error?.message == "mount /x: type \"\(type == "\0" ? "?" : type)\" is none that this agent knows")
        }
    }

    @Test func everyVolumeTypeOfTheContractHasItsKind() throws {
        let volumes = PodVolumes(directory: "/nowhere")
        for type in AgentVolumeType.allCases {
            let mount = AgentMountSpec(type.rawValue, from: "", to: "/x", ["rbind"])
            #expect(volumes.kind(of: mount) != nil)
            #expect(try MountPlan(mount).filesystem == nil)
        }
        #expect(volumes.kind(of: AgentMountSpec("bind", from: "/a", to: "/x")) == nil)
    }

    @Test func mountOptionsBecomeAttributes() throws {
        let plan = try MountPlan(
            .init("bind", from: "/a", to: "//b/./c/", ["rbind", "rslave", "rro", "nosuid", "nodev", "noexec", "noatime"]))
        #expect(plan.target == "/b/c" && plan.filesystem == nil && plan.recursive && plan.attributesRecursive)
        #expect(plan.attributesSet == 0x1F && plan.attributesCleared == MountAttribute.accessTimes)
        #expect(plan.propagation == MountPropagation.slave)
        let tmpfs = try MountPlan(.init("tmpfs", from: "", to: "/t", ["rw", "size=1m", "mode=1777", "huge=always=x", "noswap"]))
        #expect(tmpfs.source == "tmpfs" && tmpfs.attributesCleared == MountAttribute.readOnly)
        #expect(tmpfs.parameters.map(\.key) == ["size", "mode", "huge", "noswap"])
        #expect(tmpfs.parameters.map(\.value) == ["1m", "1777", "always=x", nil])
    }

    /// CVE-2016-3697, CVE-2024-40635: an image must not make root of a number.
    @Test func aNumberIsThatNumberWhateverTheImageCallsByIt() throws {
        let passwd = "1000:x:0:0::/root:\n4294967296:x:0:0:::\nroot:x:0:0::/root:\n"
        let users = UserDatabase(passwd: Array(passwd.utf8), group: Array("1000:x:0:\n99999999999:x:0:\nstaff:x:50:1000\n".utf8))
        #expect(try users.resolve(.with { $0.name = "1000" }) == ResolvedUser(uid: 1000, gid: 0, additionalGIDs: []))
        #expect(try users.resolve(.with { $0.name = "1000:1000" }) == ResolvedUser(uid: 1000, gid: 1000, additionalGIDs: []))
        #expect(try users.resolve(.with { $0.uid = 1000 }) == ResolvedUser(uid: 1000, gid: 0, additionalGIDs: []))
        for name in ["4294967296", "root:99999999999"] {
            #expect(throws: SwiftletError.self, "\(name)") { try users.resolve(.with { $0.name = name }) }
        }
    }

    @Test func damagedUserFilesAreReadAsFarAsTheyGo() throws {
        let passwd =
            "no colons\n#c:x:1:1::/:\nshort:x:5\nbad:x:a:b:::\n:::::::\napp:x:10:20:g:relative:/bin/sh\napp:x:99:99::/second:\n\u{0}\n"
            + "small:x:5:6\n"
        let group = "g:x:30:app,,other\nh:x:31:application\ni:x:99999999999:app\nj:x:40\n"
        let users = UserDatabase(passwd: Array(passwd.utf8), group: Array(group.utf8))
        #expect(try users.resolve(.with { $0.name = "app" }) == ResolvedUser(uid: 10, gid: 20, additionalGIDs: [30]))
        #expect(try users.resolve(.with { $0.name = "small:j" }) == ResolvedUser(uid: 5, gid: 40, additionalGIDs: []))
        #expect(users.home(of: 5) == "/" && users.home(of: 10) == "/" && users.home(of: 99) == "/second" && users.home(of: 7) == "/")
        #expect(
            try users.resolve(
                .with {
                    $0.uid = 99; $0.gid = 4
                }) == ResolvedUser(uid: 99, gid: 4, additionalGIDs: [30]))
    }
}
