import Errors
import Foundation
import Runtime
import Testing

@testable import CloudInit

/// Virtlet's rules for user-data, and what is not to be changed.
@Suite(.timeLimit(.minutes(2))) final class UserDataTests {
    private let pods = NSTemporaryDirectory() + "pods-\(UUID().uuidString)"

    deinit { try? FileManager.default.removeItem(atPath: pods) }

    /// A ConfigMap or Secret as the kubelet lays it out.
    private func volume(_ name: String, _ files: [String: String], plugin: String = "configmap", at path: String) throws -> ContainerMount {
        let directory = "\(pods)/uid/volumes/kubernetes.io~\(plugin)/\(name)"
        try FileManager.default.createDirectory(atPath: directory + "/..2026_01", withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(atPath: directory + "/..data", withDestinationPath: "..2026_01")
        for (file, contents) in files {
            try Data(contents.utf8).write(to: URL(filePath: "\(directory)/..2026_01/\(file)"))
            try FileManager.default.createSymbolicLink(atPath: "\(directory)/\(file)", withDestinationPath: "..data/\(file)")
        }
        var mount = ContainerMount(containerPath: path)
        mount.hostPath = directory
        return mount
    }

    private func userData(_ annotations: [String: String], _ mounts: [ContainerMount] = []) throws -> String {
        try #require(try SeedSamples.file("user-data", try SeedSamples.request(annotations, mounts: mounts)))
    }

    private static let source = [
        "users": "- name: ubuntu\n  lock_passwd: false\n", "ssh_pwauth": "True", "write_files": "- path: /a\n  content: a\n",
        "script": "#!/bin/sh\necho\n",
    ]

    @Test func nothingIsAnEmptyCloudConfig() throws {
        #expect(try userData([:]) == "#cloud-config\n{}\n")
    }

    @Test func whatIsWrittenStaysAsItIs() throws {
        let texts = [
            "#cloud-config\n# mine\nx: &a [0644, yes]\ny: *a\n", "#!/bin/bash\necho hi\n",
            "Content-Type: multipart/mixed; boundary=\"==x==\"\nMIME-Version: 1.0\n\n--==x==\n\n--==x==--\n", "#include\nhttp://example/\n",
            "## template: jinja\n#cloud-config\nruncmd: [echo {{ v1.local_hostname }}]\n",
        ]
        for text in texts { #expect(try userData(["swiftlet/user-data": text]) == text) }
        #expect(try userData(["VirtletCloudInitUserData": "{\"ssh_pwauth\": true}"]) == "#cloud-config\n{\"ssh_pwauth\": true}")
    }

    @Test func inlineIsMergedOverTheSource() async throws {
        let mount = try volume("user-data", Self.source, at: "/cloud-init")
        let inline = "ssh_pwauth: false\nwrite_files:\n- {path: /b, content: !!binary Yg==, permissions: 0600}\nruncmd: [echo, 'yes']\n"
        let text = try userData(
            ["VirtletCloudInitUserData": inline, "VirtletCloudInitUserDataSource": "configmap/user-data"], [mount])
        try expectGolden(text, "user-data-merged")
        let ours = try userData(["swiftlet/user-data": inline, "swiftlet/user-data-from": "/cloud-init"], [mount])
        #expect(ours == text)
        #expect(
            try userData(
                [
                    "VirtletCloudInitUserData": inline, "VirtletCloudInitUserDataSource": "configmap/user-data",
                    "VirtletCloudInitUserDataOverwrite": "true",
                ], [mount]) == "#cloud-config\n" + inline)
        // As PyYAML reads it.
        let read = try await CloudInitProgram.python([
            "-c",
            "import sys, yaml; d = yaml.safe_load(sys.argv[1]); print(d['ssh_pwauth'], d['users'], d['write_files'], d['runcmd'])",
            text,
        ])
        #expect(
            read.output
                == "False [{'name': 'ubuntu', 'lock_passwd': False}] [{'path': '/a', 'content': 'a'}, {'path': '/b', 'content': b'b', 'permissions': 384}] ['echo', 'yes']\n",
            "\(read.errors)")
    }

    @Test func aFileOfAMountIsUserData() throws {
        let mount = try volume(
            "x", ["user-data": "#cloud-config\nruncmd: [a]\n", "b64": "IyEvYmluL3NoCmVjaG8K\n"], plugin: "secret", at: "/seed")
        #expect(try userData(["swiftlet/user-data-from": "/seed/user-data"], [mount]) == "#cloud-config\nruncmd: [a]\n")
        #expect(
            try userData(["swiftlet/user-data-from": "/seed/b64", "swiftlet/user-data-encoding": "base64"], [mount])
                == "#!/bin/sh\necho\n")
        #expect(
            try userData(["swiftlet/user-data-from": "/seed/user-data", "swiftlet/user-data": "runcmd: [b]"], [mount])
                == "#cloud-config\nruncmd:\n  - a\n  - b\n")
        #expect(throws: SwiftletError.self) {
            try userData(
                ["swiftlet/user-data-from": "/seed/b64", "swiftlet/user-data-encoding": "base64", "swiftlet/user-data": "a: b"], [mount])
        }
    }

    @Test func aSourcesKeyIsAScriptAndAScriptBeatsAll() throws {
        let mount = try volume("scripts", Self.source, plugin: "secret", at: "/cloud-init")
        let source = ["VirtletCloudInitUserDataSource": "secret/scripts", "VirtletCloudInitUserDataSourceKey": "script"]
        #expect(try userData(source, [mount]) == "#!/bin/sh\necho\n")
        #expect(
            try userData(source.merging(["VirtletCloudInitUserDataScript": "#!/bin/sh\ntrue\n"]) { $1 }, [mount])
                == "#!/bin/sh\ntrue\n")
    }

    @Test func theMountScriptIsPutWhereItIsAskedFor() async throws {
        var request = try SeedSamples.full(["VirtletCloudInitUserDataScript": "#!/bin/sh\n@virtlet-mount-script@\necho done\n"])
        let text = try #require(try SeedSamples.file("user-data", request))
        #expect(text.contains("swiftlet_link \"$d\" '/dev/testpvc'") && !text.contains(UserData.mountScriptMark))
        #expect(!text.contains("/etc/cloud/environment"))
        let checked = try await CloudInitProgram.run("/bin/sh", ["-n", "-c", text])
        #expect(checked.status == 0, "\(checked.errors)")
        request.disks = []
        request.shares = []
        #expect(try SeedSamples.file("user-data", request) == "#!/bin/sh\n\necho done\n")
    }

    @Test func whatIsMissingIsNamed() throws {
        let mount = try volume("user-data", Self.source, at: "/cloud-init")
        let cases: [([String: String], String)] = [
            (
                ["VirtletCloudInitUserDataSource": "configmap/other"],
                "VirtletCloudInitUserDataSource: configmap/other: the container mounts no volume \"other\" of a ConfigMap"
            ),
            (["VirtletCloudInitUserDataSource": "secret/user-data"], "the container mounts no volume \"user-data\" of a Secret"),
            (["swiftlet/user-data-from": "/elsewhere"], "swiftlet/user-data-from: /elsewhere is in none of the container's mounts"),
            (["swiftlet/user-data-from": "/cloud-init/absent"], "there is no file \"absent\" in mount /cloud-init"),
            (["VirtletSSHKeySource": "configmap/user-data"], "there is no file \"authorized_keys\" in mount /cloud-init"),
        ]
        for (annotations, message) in cases {
            let error = #expect(throws: SwiftletError.self) { try userData(annotations, [mount]) }
            #expect(error?.code == .invalidArgument && error?.message.contains(message) == true, "\(error?.message ?? "")")
        }
    }

    @Test func keysComeFromMountsAndAnnotations() throws {
        let mount = try volume(
            "keys", ["authorized_keys": "ssh-rsa AAA a\n# no key\n", "mine": "ssh-rsa BBB b\n"], plugin: "secret", at: "/k")
        let keys = { (annotations: [String: String]) in
            try VMAnnotations(pod: annotations).seedData(from: [mount]).sshKeys
        }
        #expect(try keys(["VirtletSSHKeySource": "secret/keys", "VirtletSSHKeys": "ssh-rsa CCC c"]) == ["ssh-rsa AAA a", "ssh-rsa CCC c"])
        #expect(try keys(["VirtletSSHKeySource": "secret/keys/mine"]) == ["ssh-rsa BBB b"])
        #expect(try keys(["swiftlet/ssh-keys-from": "/k/mine"]) == ["ssh-rsa BBB b"])
        #expect(
            try keys([
                "VirtletSSHKeySource": "secret/keys", "VirtletSSHKeys": "ssh-rsa CCC c", "VirtletCloudInitUserDataOverwrite": "true",
            ]) == ["ssh-rsa CCC c"])
    }

    @Test func filesAreTakenByVirtletsKeys() throws {
        let mount = try volume(
            "files", ["one": "aGkK", "one_path": "/etc/one\n", "two": "plain", "two_path": "/tmp/two", "two_encoding": "plain"], at: "/f")
        let files = try VMAnnotations(pod: ["VirtletFilesFromDataSource": "configmap/files"]).seedData(from: [mount]).files
        #expect(
            files == [
                .init(path: "/etc/one", contents: Array("hi\n".utf8), mode: 0o644),
                .init(path: "/tmp/two", contents: Array("plain".utf8), mode: 0o644),
            ])
    }

    @Test func volumesAreWrittenIntoTheSeedOnDemand() throws {
        let config = try volume("config", ["a": "1"], at: "/etc/config")
        let other = try volume("other", ["b": "2"], plugin: "empty-dir", at: "/data")
        let all = try VMAnnotations(pod: ["swiftlet/seed-volumes": "all"])
        #expect(all.isSeeded(config) && !all.isSeeded(other))
        let one = try VMAnnotations(pod: ["swiftlet/seed-volumes": "/data/"])
        #expect(!one.isSeeded(config) && one.isSeeded(other))
        #expect(try all.seedData(from: [config, other]).files.map(\.path) == ["/etc/config/a"])
        #expect(throws: SwiftletError.self) { try VMAnnotations(pod: ["swiftlet/seed-volumes": "/x"]).seedData(from: [config]) }
    }

    /// Such as a Secret of one key, mounted at a directory of that name: it is no subPath.
    @Test func aDirectoryWithOneFileOfItsOwnNameStaysOne() throws {
        let token = try volume("token", ["token": "x"], plugin: "secret", at: "/etc/token")
        #expect(try VMAnnotations(pod: ["swiftlet/seed-volumes": "all"]).seedData(from: [token]).files.map(\.path) == ["/etc/token/token"])
        let users = try volume("users", ["users": "[{name: a}]"], at: "/etc/users")
        #expect(try userData(["swiftlet/user-data-from": "/etc/users"], [users]) == "#cloud-config\nusers:\n  - name: a\n")
        var file = token
        (file.hostPath, file.containerPath) = (token.hostPath + "/token", "/opt/token")
        let one = try VMAnnotations(pod: ["swiftlet/seed-volumes": "/opt/token"])
        #expect(try one.seedData(from: [file]).files.map(\.path) == ["/opt/token"])
    }

    @Test func whatIsTooLargeIsRefusedByName() throws {
        var request = try SeedSamples.request()
        request.data.userData = .written([UInt8](repeating: 0x20, count: 100 << 20))
        let error = #expect(throws: SwiftletError.self) { try Seed(request, format: .noCloud) }
        #expect(error?.message == "user-data has 104857600 bytes; a seed's file has at most 8388608")
    }

    /// Every kind of user-data that is put together here is what cloud-init takes.
    @Test func generatedUserDataPassesTheSchema() async throws {
        let mount = try volume(
            "user-data", ["users": "- name: ubuntu\n  lock_passwd: false\n", "write_files": "- path: /a\n  content: a\n"], at: "/cloud-init"
        )
        let inline =
            "write_files:\n- {path: /b, content: b, permissions: '0600'}\nruncmd:\n- [echo, 'yes']\nmounts:\n- [/dev/testpvc, /mnt]\n"
        for annotations in [
            [:], ["VirtletCloudInitUserData": inline],
            ["VirtletCloudInitUserData": inline, "VirtletCloudInitUserDataSource": "configmap/user-data"],
        ] {
            let file = pods + "/user-data"
            try Data(try userData(annotations, [mount]).utf8).write(to: URL(filePath: file))
            let result = try await CloudInitProgram.python(["-m", "cloudinit.cmd.main", "schema", "-c", file])
            #expect(result.status == 0 && result.output.contains("Valid cloud-config"), "\(result.output) \(result.errors)")
        }
    }
}
