import Errors
import Foundation
import Glibc
import Runtime
import Testing

@testable import HostRuntime

/// Devices by files of the Container Device Interface.
@Suite(.timeLimit(.minutes(1))) struct CDITests {
    /// Directories of the test's own, as the administrator's.
    private final class Place {
        let root = "/tmp/cdi-tests-\(UUID().uuidString.prefix(8))"
        var directories: CDIDirectories

        init() throws {
            directories = CDIDirectories(paths: ["\(root)/etc", "\(root)/run"], owner: geteuid())
            for path in directories.paths { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
            for path in directories.paths { #expect(chmod(path, 0o755) == 0) }
        }

        deinit { try? FileManager.default.removeItem(atPath: root) }

        func write(_ name: String, _ text: String, mode: mode_t = 0o644) throws {
            try text.write(toFile: "\(root)/\(name)", atomically: false, encoding: .utf8)
            #expect(chmod("\(root)/\(name)", mode) == 0)
        }

        func edits(_ names: String...) throws -> CDIEdits { try directories.edits(for: names.compactMap(CDIDevice.init(_:))) }

        func failure(_ names: String...) -> SwiftletError? {
            #expect(throws: SwiftletError.self) { try directories.edits(for: names.compactMap(CDIDevice.init(_:))) }
        }
    }

    /// One device with a variable.
    private static func file(_ device: String, _ value: String, version: String = "0.6.0") -> String {
        """
        cdiVersion: "\(version)"
        kind: vendor.com/gpu
        devices:
        - name: "\(device)"
          containerEdits: {env: ["DEVICE=\(value)"]}
        """
    }

    private static let whole = """
        cdiVersion: "0.7.0"
        kind: vendor.com/gpu
        annotations: {origin: test}
        containerEdits:
          env: [ALL=1]
          mounts:
          - hostPath: /usr
            containerPath: /vendor/usr
            options: [ro, nosuid]
          additionalGids: [0, 44]
        devices:
        - name: "0"
          annotations: {slot: "1"}
          containerEdits:
            env: [DEVICE=0]
            deviceNodes:
            - {path: /dev/vendor0, hostPath: /dev/zero, permissions: rw, fileMode: 0640, uid: 7, gid: 8}
            - {path: /dev/fifo, type: p}
            - {path: /dev/own, type: c, major: 240, minor: 3, permissions: none}
            hooks:
            - {hookName: createContainer, path: /bin/sh, args: [sh, -c, "true"], env: [A=b], timeout: 5}
            - {hookName: startContainer, path: /of/the/container}
        - name: "1"
          containerEdits: {env: [DEVICE=1]}
        """

    private static let wholeAsJSON = """
        {"cdiVersion": "0.7.0", "kind": "vendor.com/gpu", "annotations": {"origin": "test"},
         "containerEdits": {"env": ["ALL=1"], "additionalGids": [0, 44],
           "mounts": [{"hostPath": "/usr", "containerPath": "\\/vendor\\/usr", "options": ["ro", "nosuid"]}]},
         "devices": [
           {"name": "0", "annotations": {"slot": "1"}, "containerEdits": {"env": ["DEVICE=0"],
             "deviceNodes": [
               {"path": "/dev/vendor0", "hostPath": "/dev/zero", "permissions": "rw", "fileMode": 416, "uid": 7, "gid": 8},
               {"path": "/dev/fifo", "type": "p"},
               {"path": "/dev/own", "type": "c", "major": 240, "minor": 3, "permissions": "none"}],
             "hooks": [
               {"hookName": "createContainer", "path": "/bin/sh", "args": ["sh", "-c", "true"], "env": ["A=b"], "timeout": 5},
               {"hookName": "startContainer", "path": "/of/the/container"}]}},
           {"name": "1", "containerEdits": {"env": ["DEVICE=1"]}}]}
        """

    @Test func aFileIsTheSameInBothLanguages() throws {
        let yaml = try CDIDocument.read(Array(Self.whole.utf8), isYAML: true)
        #expect(try yaml == CDIDocument.read(Array(Self.wholeAsJSON.utf8), isYAML: false))
        #expect(yaml.devices[0].edits.deviceNodes[0].fileMode == 0o640 && yaml.edits.additionalGIDs == [44])
        for version in CDIDocument.versions {
            #expect(try CDIDocument.read(Array(Self.file("a", "1", version: version).utf8), isYAML: true).devices.count == 1)
        }
    }

    /// The order of the interface's library: each file's own edits once, before those of its first device.
    @Test func whatComesWithDevicesIsLaidOverTheContainer() throws {
        let place = try Place()
        try place.write("etc/vendor.yaml", Self.whole)
        var bundle = try RuntimeSpec(
            BundleTests.plan { spec in
                var (own, other) = (ContainerMount(containerPath: "/vendor/usr"), ContainerMount(containerPath: "/vendor"))
                (own.hostPath, other.hostPath) = ("/etc", "/var")
                spec.mounts = [own, other]
                spec.security.devices = []
            }, BundleTests.place())
        bundle.process.env.append("DEVICE=image")
        let device = RuntimeSpec.Device(path: "/dev/vendor0", type: "c", major: 1, minor: 3, fileMode: 0o666, uid: 0, gid: 0)
        bundle.linux.devices = [device]
        try bundle.apply(place.edits("vendor.com/gpu=1", "vendor.com/gpu=0"))
        #expect(bundle.process.env.suffix(2) == ["ALL=1", "DEVICE=0"])
        #expect(bundle.process.env.filter { $0.hasPrefix("DEVICE=") }.count == 1)
        #expect(
            bundle.linux.devices == [
                .init(path: "/dev/vendor0", type: "c", major: 1, minor: 5, fileMode: 0o640, uid: 7, gid: 8),
                .init(path: "/dev/fifo", type: "p", major: 0, minor: 0, fileMode: 0o666, uid: 1000, gid: 1000),
                .init(path: "/dev/own", type: "c", major: 240, minor: 3, fileMode: 0o666, uid: 1000, gid: 1000),
            ])
        #expect(bundle.linux.resources.devices?.suffix(1) == [.init(allow: true, type: "c", major: 1, minor: 5, access: "rw")])
        #expect(bundle.linux.resources.devices?.count == 2, "a named pipe, and what nobody may use, need no rule")
        let mounts = bundle.mounts.filter { $0.destination.hasPrefix("/vendor") }
        #expect(mounts.map(\.source) == ["/var", "/usr"] && mounts.last?.options == ["rbind", "ro", "nosuid"])
        #expect(bundle.process.user.additionalGids == [44])
        #expect(bundle.hooks?.createContainer == [.init(path: "/bin/sh", args: ["sh", "-c", "true"], env: ["A=b"], timeout: 5)])
        #expect(bundle.hooks?.startContainer == [.init(path: "/of/the/container")] && bundle.hooks?.prestart == nil)
    }

    @Test func whatTheNodeDoesNotHaveIsRefused() throws {
        let plain = try RuntimeSpec(BundleTests.plan(), BundleTests.place())
        for (edits, word) in [
            ("deviceNodes: [{path: /dev/none-such}]", "/dev/none-such"),
            ("deviceNodes: [{path: /dev/null, type: b}]", "of type c"),
            ("mounts: [{hostPath: /none/such, containerPath: /a}]", "/none/such"),
        ] {
            let text = "cdiVersion: 0.5.0\nkind: v.org/c\ndevices: [{name: a, containerEdits: {\(edits)}}]"
            let found = try CDIDocument.read(Array(text.utf8), isYAML: true).devices[0].edits
            var bundle = plain
            let error = #expect(throws: SwiftletError.self, "\(edits)") { try bundle.apply(found) }
            #expect(error?.code == .failedPrecondition && error?.message.contains(word) == true, "\(String(describing: error))")
        }
    }

    @Test func theLatestDirectoryCountsAndTwoFilesOfOneAreAConflictOfThatDeviceAlone() throws {
        let place = try Place()
        try place.write("etc/a.yaml", Self.file("0", "etc"))
        try place.write("etc/b.json", Self.file("1", "etc").replacing("cdiVersion: ", with: "not json"))
        try place.write("etc/c.yaml", Self.file("2", "etc"))
        #expect(try place.edits("vendor.com/gpu=0").env == ["DEVICE=etc"])
        try place.write("run/a.yaml", Self.file("0", "run"))
        #expect(try place.edits("vendor.com/gpu=0").env == ["DEVICE=run"])
        try place.write("run/b.yaml", Self.file("0", "again"))
        let conflict = place.failure("vendor.com/gpu=2", "vendor.com/gpu=0")
        #expect(conflict?.code == .failedPrecondition && conflict?.message.contains("run/a.yaml, ") == true)
        #expect(conflict?.message.contains("vendor.com/gpu=0") == true && conflict?.message.contains("run/b.yaml") == true)
        #expect(try place.edits("vendor.com/gpu=2").env == ["DEVICE=etc"])
        // One of the directories below does not matter where a later one says which it is.
        try place.write("etc/d.yaml", Self.file("3", "etc"))
        try place.write("etc/e.yaml", Self.file("3", "etc"))
        try place.write("run/c.yaml", Self.file("3", "run"))
        #expect(try place.edits("vendor.com/gpu=3").env == ["DEVICE=run"])
    }

    @Test func anUnknownDeviceIsNamedWithTheDirectoriesAndWhatIsWrongInThem() throws {
        let place = try Place()
        try place.write("etc/a.yaml", Self.file("0", "etc"))
        try place.write("etc/not.txt", Self.file("1", "etc"))
        try place.write("etc/bad.yaml", Self.file("1", "etc") + "\nfuture: 1\n")
        let error = place.failure("vendor.com/gpu=1")
        #expect(error?.code == .notFound)
        for word in place.directories.paths + ["vendor.com/gpu=1", "etc/bad.yaml", "field \"future\""] {
            #expect(error?.message.contains(word) == true, "\(word): \(String(describing: error))")
        }
        try FileManager.default.removeItem(atPath: place.directories.paths[1])
        #expect(try place.edits("vendor.com/gpu=0").env == ["DEVICE=etc"], "a directory need not be there")
    }

    @Test(arguments: [
        (file("a", "1", version: "0.2.0"), "cdiVersion"), (file("a", "1", version: "9.0.0"), "9.0.0"),
        ("kind: v.org/c\ndevices: []", "cdiVersion is missing"), ("cdiVersion: 0.6.0\nkind: gpu\ndevices: [{name: a}]", "\"gpu\""),
        ("cdiVersion: 0.6.0\nkind: v.org/c\ndevices: [{name: a}, {name: a}]", "two devices"),
        ("cdiVersion: 0.6.0\nkind: v.org/c\ndevices: [{name: a/b}]", "a/b"), ("", "cdiVersion"), ("[", "YAML, line 1"),
        (edit("env: [=x]"), "env"), (edit("env: [1]"), "another type"), (edit("netDevices: []"), "netDevices"),
        (edit("deviceNodes: [{path: dev/x}]"), "deviceNodes.path"), (edit("deviceNodes: [{path: /dev/../x}]"), "deviceNodes.path"),
        (edit("deviceNodes: [{path: /x, type: x}]"), "deviceNodes.type"), (edit("deviceNodes: [{path: /x, major: -1}]"), "malformed"),
        (edit("deviceNodes: [{path: /x, permissions: rx}]"), "permissions"),
        (edit("mounts: [{hostPath: x, containerPath: /x}]"), "mounts.hostPath"), (edit("mounts: [{hostPath: /x}]"), "containerPath"),
        (edit("hooks: [{hookName: early, path: /x}]"), "hookName"), (edit("hooks: [{hookName: prestart, path: x}]"), "hooks.path"),
        (edit("hooks: [{hookName: prestart, path: /x, timeout: 0}]"), "timeout"),
    ]) func whatIsWrongInAFileIsSaid(_ text: String, _ word: String) {
        let error = #expect(throws: SwiftletError.self) { try CDIDocument.read(Array(text.utf8), isYAML: true) }
        #expect(error?.code == .invalidArgument && error?.message.contains(word) == true, "\(String(describing: error))")
    }

    private static func edit(_ edits: String) -> String {
        "cdiVersion: 0.6.0\nkind: v.org/c\ndevices: [{name: a, containerEdits: {\(edits)}}]"
    }

    @Test func whatOthersCouldHaveWrittenIsNotDone() throws {
        let place = try Place()
        try place.write("etc/a.yaml", Self.file("0", "etc"), mode: 0o664)
        #expect(place.failure("vendor.com/gpu=0")?.message.contains("nobody else's to write") == true)
        try place.write("etc/a.yaml", Self.file("0", "etc"))
        #expect(try place.edits("vendor.com/gpu=0").env == ["DEVICE=etc"])
        #expect(chmod(place.directories.paths[0], 0o777) == 0)
        #expect(place.failure("vendor.com/gpu=0")?.code == .notFound)
        #expect(chmod(place.directories.paths[0], 0o755) == 0)
        place.directories.owner += 1
        #expect(place.failure("vendor.com/gpu=0")?.code == .notFound)
        place.directories.owner -= 1
        #expect(mkfifo("\(place.directories.paths[1])/pipe.json", 0o644) == 0)
        #expect(try place.edits("vendor.com/gpu=0").env == ["DEVICE=etc"], "a named pipe is not waited for")
    }

    /// It is run as root.
    @Test func aHookThatOthersCouldHaveWrittenIsNotRun() throws {
        let place = try Place()
        let program = "\(place.root)/hook"
        try place.write("hook", "#!/bin/sh\n", mode: 0o755)
        func text(_ name: String) -> String {
            """
            cdiVersion: 0.6.0
            kind: vendor.com/gpu
            devices: [{name: "0", containerEdits: {hooks: [{hookName: \(name), path: \(program)}]}}]
            """
        }
        try place.write("etc/a.yaml", text("prestart"))
        #expect(try place.edits("vendor.com/gpu=0").hooks.map(\.path) == [program])
        for (mode, code) in [(mode_t(0o775), SwiftletError.Code.permissionDenied), (0o644, .failedPrecondition)] {
            #expect(chmod(program, mode) == 0)
            let error = place.failure("vendor.com/gpu=0")
            #expect(error?.code == code && error?.message.contains(program) == true, "\(String(describing: error))")
        }
        try place.write("etc/a.yaml", text("startContainer"))
        #expect(try place.edits("vendor.com/gpu=0").hooks.count == 1, "it is the container's own")
    }

    @Test func sharesOfCachesAreRefusedForTheDeviceThatAsks() throws {
        let place = try Place()
        try place.write(
            "etc/a.yaml",
            """
            cdiVersion: 0.7.0
            kind: vendor.com/gpu
            devices: [{name: "0", containerEdits: {intelRdt: {closID: "a"}}}, {name: "1", containerEdits: {env: [A=b]}}]
            """)
        let error = place.failure("vendor.com/gpu=0")
        #expect(error?.code == .unimplemented && error?.message.contains("intelRdt") == true)
        #expect(try place.edits("vendor.com/gpu=1").env == ["A=b"])
    }

    @Test func filesAndDirectoriesAreBounded() throws {
        let place = try Place()
        try place.write("etc/a.yaml", Self.file("0", "etc"))
        try place.write("etc/large.json", String(repeating: " ", count: CDIDirectories.largest + 1))
        #expect(place.failure("vendor.com/gpu=1")?.message.contains("large.json") == true)
        for number in 0..<CDIDirectories.mostFiles { try place.write("run/\(number).yaml", "") }
        #expect(try place.edits("vendor.com/gpu=0").env == ["DEVICE=etc"])
        try place.write("run/more.yaml", "")
        #expect(place.failure("vendor.com/gpu=1")?.message.contains("more than \(CDIDirectories.mostFiles)") == true)
    }
}
