import CLinux
import Errors
import Foundation
import Glibc
import Runtime
import Testing

@testable import HostRuntime

/// Labels for containers where the node has SELinux; its files are played.
@Suite(.timeLimit(.minutes(1))) struct SELinuxTests {
    private final class Place {
        let root = "/tmp/selinux-tests-\(UUID().uuidString.prefix(8))"
        var module: SELinux { SELinux(root: "\(root)/fs", configuration: "\(root)/etc") }

        init() throws {
            for directory in ["fs", "etc/own/contexts"] {
                try FileManager.default.createDirectory(atPath: "\(root)/\(directory)", withIntermediateDirectories: true)
            }
        }

        deinit { try? FileManager.default.removeItem(atPath: root) }

        func write(_ name: String, _ text: String) throws {
            try text.write(toFile: "\(root)/\(name)", atomically: false, encoding: .utf8)
        }
    }

    @Test func labelsAreThePolicysAndWhatTheOptionsSay() throws {
        let place = try Place()
        #expect(!place.module.isEnabled)
        try place.write("fs/enforce", "1")
        try place.write("fs/context", "")
        #expect(place.module.isEnabled)
        let own = try place.module.labels(SELinuxOptions(type: "my_t", level: "s0:c1,c2"), pod: "a")
        #expect(own.process == "system_u:system_r:my_t:s0:c1,c2" && own.file == "system_u:object_r:container_file_t:s0:c1,c2")
        try place.write("etc/config", "# a comment\nSELINUX=enforcing\nSELINUXTYPE=own\n")
        try place.write(
            "etc/own/contexts/lxc_contexts", "process = \"u:r:lxc_t:s0\"\nfile = \"u:object_r:lxc_file_t:s0\"\nsandbox_kvm = \"x\"\n")
        let level = try place.module.labels(SELinuxOptions(user: "me", role: "mine"), pod: "a")
        #expect(level.process.hasPrefix("me:mine:lxc_t:s0:c") && level.file.hasPrefix("u:object_r:lxc_file_t:s0:c"))
        #expect(try level == place.module.labels(SELinuxOptions(user: "me", role: "mine"), pod: "a"), "of one pod all are alike")
        #expect(try level != place.module.labels(SELinuxOptions(user: "me", role: "mine"), pod: "b"))
        for pod in 0..<2000 {
            let categories = try place.module.labels(SELinuxOptions(role: "r"), pod: "\(pod)").file.split(separator: ":")[4]
            let numbers = categories.split(separator: ",").compactMap { Int($0.dropFirst()) }
            #expect(numbers.count == 2 && numbers[0] < numbers[1] && numbers[1] < 1024 && numbers[0] >= 0)
        }
    }

    @Test func labelsThatThePolicyDoesNotHaveAreRefusedByField() throws {
        let place = try Place()
        try place.write("fs/enforce", "1")
        // The kernel refuses the write; here there is nothing to write to.
        for options in [SELinuxOptions(type: "none_t"), SELinuxOptions(type: "a\"b"), SELinuxOptions(level: "s0 c1")] {
            let error = #expect(throws: SwiftletError.self) { try place.module.labels(options, pod: "a") }
            #expect(error?.code == .invalidArgument && error?.message.contains("selinux_options") == true)
        }
    }

    @Test func labelsReachTheBundleUnlessItIsPrivileged() throws {
        var place = BundleTests.place()
        place.labels = SELinux.Labels(process: "a:b:c:s0", file: "d:e:f:s0")
        let bundle = try RuntimeSpec(BundleTests.plan(), place)
        #expect(bundle.process.selinuxLabel == "a:b:c:s0" && bundle.linux.mountLabel == "d:e:f:s0")
        var spec = try BundleTests.plan().spec
        spec.security.policies = SecurityPolicies(selinux: SELinuxOptions(level: "s0:c1,c2"))
        #expect(RuntimeSpec.selinuxOptions(spec) == SELinuxOptions(level: "s0:c1,c2"))
        spec.privileged = true
        #expect(RuntimeSpec.selinuxOptions(spec) == nil)
    }

    @Test(.enabled(if: geteuid() == 0)) func filesGetTheirLabelsAndTheNodesOwnDoNot() throws {
        let place = try Place()
        try place.write("etc/file", "x")
        #expect(symlink("/etc", "\(place.root)/etc/link") == 0)
        try place.module.relabel(place.root, as: "a:b:c:s0")
        for path in [place.root, "\(place.root)/etc/own/contexts", "\(place.root)/etc/file"] {
            var text = [CChar](repeating: 0, count: 64)
            #expect(clinux_label(path, &text, text.count) == 9, "\(path)")
            #expect(String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) == "a:b:c:s0")
        }
        for path in ["/", "/etc", "/usr/", "\(place.root)/etc/link"] {
            let error = #expect(throws: SwiftletError.self, "\(path)") { try place.module.relabel(path, as: "a:b:c:s0") }
            #expect(error?.code == .invalidArgument)
        }
    }
}
