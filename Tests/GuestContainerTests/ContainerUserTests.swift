import AgentProtocol
import Errors
import Foundation
import Testing

/// Users, groups, capabilities and no_new_privs as a process of the container sees them.
@Suite struct ContainerUserTests {
    private let image = TestImage.plain

    @Test(arguments: [
        ("", "0 0 0 10"), ("app", "1000 1001 1001 10 2000"), ("1000", "1000 1001 1001 10 2000"), ("app:extra", "1000 2000 2000 10"),
        ("1000:7", "1000 7 7 10 2000"), ("4242", "4242 0 0"), ("4242:4343", "4242 4343 4343"), ("root:wheel", "0 10 10"),
    ])
    func userIsResolvedInTheContainersOwnFiles(name: String, expected: String) async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell("echo $(id -u) $(id -g) $(id -G)")
            spec.process.user.name = name
            let seen = try await probe.run(spec).stdout.split { $0 == " " || $0 == "\n" }
            let wanted = expected.split(separator: " ")
            #expect(seen.prefix(2) == wanted.prefix(2))
            #expect(Set(seen.dropFirst(2)).union([seen[1]]) == Set(wanted.dropFirst(2)))
        }
    }

    @Test func aUserIsFoundInLargeFilesToo() async throws {
        // 2 MiB of users and 1 MiB of groups before those that are looked for.
        let image = try TestImage.extended(
            by: """
                mkdir etc
                { seq 100000 150000 | sed 's/.*/user&:x:&:&:Somebody else:\\/home\\/user&:\\/bin\\/sh/'; echo last:x:77:78::/:/bin/sh; } > etc/passwd
                { seq 100000 150000 | sed 's/.*/group&:x:&:user&/'; echo late:x:79:first,last; } > etc/group
                test $(stat -c %s etc/passwd) -gt 2097152
                """)
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell("echo $(id -u) $(id -g) $(id -G)")
            for name in ["last", "77"] {
                spec.process.user.name = name
                #expect(try await probe.run(spec).stdout == "77 78 78 79\n")
            }
        }
    }

    @Test(arguments: ["nobody-here", "app:no-such-group", "-1", "4294967295", "99999999999", "0x10"])
    func unknownUserIsInvalidAndNamed(name: String) async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("id")
            spec.process.user.name = name
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", spec) }
            #expect(error?.code == .invalidArgument)
            #expect(error?.message.contains(String(name.split(separator: ":").last ?? "")) == true)
            #expect(try await probe.held().hasPrefix("mounts=0 containers=[] trash=[] cgroups=[]"))
        }
    }

    @Test func groupSetByTheCallerBeatsThePasswdEntry() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell("echo $(id -u) $(id -g) $(id -G)")
            spec.process.user.name = "app"
            spec.process.user.gid = 0
            spec.process.user.gidSet = true
            spec.process.user.additionalGids = [3000]
            #expect(try await probe.run(spec).stdout == "1000 0 0 10 2000 3000\n")
        }
    }

    @Test func passwdThatIsNoFileIsRefused() async throws {
        let image = try TestImage.extended(by: "mkdir etc; mkfifo etc/passwd")
        try await ProbeClient.with(image) { (probe) async throws in
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", image.spec("id")) }
            #expect(error?.code == .invalidArgument)
        }
    }

    @Test func passwdLinkedOutOfTheImageIsReadInsideIt() async throws {
        let image = try TestImage.extended(
            by: "mkdir etc; ln -s ../../../../../hidden/passwd etc/passwd; mkdir hidden; echo app:x:77:78::/inside:/bin/sh > hidden/passwd")
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell("echo $(id -u) $(id -g) $HOME")
            spec.process.user.name = "app"
            #expect(try await probe.run(spec).stdout == "77 78 /inside\n")
        }
    }

    @Test func rootHasExactlyTheCapabilitiesOfTheSpec() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            let outcome = try await probe.run(image.spec("grep", "-E", "^(Cap|NoNew)", "/proc/self/status"))
            // The 14 default capabilities of container runtimes.
            let set = "00000000a80425fb"
            #expect(
                outcome.stdout
                    == """
                    CapInh:\t0000000000000000
                    CapPrm:\t\(set)
                    CapEff:\t\(set)
                    CapBnd:\t\(set)
                    CapAmb:\t0000000000000000
                    NoNewPrivs:\t0

                    """
            )
        }
    }

    @Test func unprivilegedUserHasOnlyAmbientCapabilities() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("grep", "-E", "^(Cap|NoNew)", "/proc/self/status")
            spec.process.user.name = "app"
            spec.process.noNewPrivileges = true
            spec.process.capabilities.inheritable = ["CAP_NET_BIND_SERVICE"]
            spec.process.capabilities.ambient = ["CAP_NET_BIND_SERVICE"]
            let bind = "0000000000000400"
            #expect(
                try await probe.run(spec).stdout
                    == "CapInh:\t\(bind)\nCapPrm:\t\(bind)\nCapEff:\t\(bind)\nCapBnd:\t00000000a80425fb\nCapAmb:\t\(bind)\nNoNewPrivs:\t1\n"
            )
        }
    }

    @Test func processWithoutCapabilitiesHasNone() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell("grep -cE '^Cap.*:.0000000000000000$' /proc/self/status; mknod /dev/x c 1 3 || echo refused")
            spec.process.clearCapabilities()
            #expect(try await probe.run(spec).stdout == "5\nrefused\n")
        }
    }

    @Test func execTakesItsOwnUserAndCapabilitiesUnlessItInherits() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("sleep", "1000")
            spec.process.user.name = "app"
            spec.process.env = ["WHO=container"].map { Data($0.utf8) }
            spec.process.cwd = "/home/app"
            try await probe.launch("c", spec)
            let script = ["sh", "-c", "echo $(id -u) $WHO $HOME $PWD $(grep -c '^CapBnd:.0000000000000000' /proc/self/status)"]
            #expect(try await probe.exec("c", script).stdout == "1000 container /home/app /home/app 0\n")
            var own = AgentProcessSpec()
            own.user.name = "root"
            own.env = ["WHO=exec"].map { Data($0.utf8) }
            #expect(try await probe.exec("c", script, as: own).stdout == "0 exec /root / 1\n")
        }
    }
}
