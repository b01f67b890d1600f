import CLinux
import Errors
import Foundation
import Linux
import Logging
import Machines
import Testing

extension Tag {
    /// Boots machines with QEMU: some seconds each.
    @Tag static var system: Self
}

/// Whether tests that boot machines are wanted, and what they boot with.
enum SystemTestGround {
    static let isWanted = ProcessInfo.processInfo.environment["SWIFTLET_SYSTEM_TESTS"] == "1"

    /// Tells the times of starts and ends.
    static let logger: Logger = {
        var logger = Logger(label: "system-test")
        logger.logLevel = .debug
        return logger
    }()

    /// The directory that `make guest` fills.
    static let guest =
        ProcessInfo.processInfo.environment["SWIFTLET_GUEST"]
        ?? URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: ".build/guest").path

    /// What a guest prints when its first program runs.
    static let greeting = "GUEST-IS-UP"

    /// A program that was built with the tests.
    static func built(_ name: String) throws -> String {
        let bundle = Bundle.main.bundleURL
        let candidates = [bundle, bundle.deletingLastPathComponent()].map { $0.appending(path: name).path }
        return try #require(candidates.first { FileManager.default.isExecutableFile(atPath: $0) }, "\(name) is not built")
    }
}

/// A directory with everything a machine needs, and the machines that were made from it.
final class MachineRoom: Sendable {
    let directory: String
    let kernel: String
    let initramfs: String
    /// Whom machines with users of their own are.
    static var users: UserRange { get throws { try UserRange(first: 2_001_500_000, count: 2) } }
    private let backend: VsockBackend

    init() throws {
        // Not below a private /tmp of the test's user: QEMU runs as its own user and must get through.
        directory = "/tmp/swiftlet-room-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        kernel = "\(directory)/vmlinuz"
        initramfs = "\(directory)/initramfs"
        try FileManager.default.copyItem(atPath: "\(SystemTestGround.guest)/vmlinuz", toPath: kernel)
        try Self.makeInitramfs(at: initramfs, in: directory)
        backend = VsockBackend(binary: try SystemTestGround.built("swiftlet-vsockd"), users: try Self.users)
    }

    /// A machine whose guest greets on its console and then waits. Its vsock backend runs already.
    ///
    /// - Parameter user: of the machine and its backend; nil: libvirt's own.
    func spec(_ name: String, user: MachineUser? = nil, change: (inout MachineSpec) -> Void = { _ in }) async throws -> MachineSpec {
        var spec = MachineSpec.minimal(id: .random(), name: name)
        spec.boot = .kernel(path: kernel, initramfs: initramfs, arguments: spec.kernelArguments)
        spec.set(.console(ConsoleSpec(log: "\(directory)/\(name).console")))
        spec.set(.vsock(.vhostUser(socket: "\(directory)/\(name).vhost", cid: 3)))
        spec.user = user
        change(&spec)
        _ = try await backend.start(
            vhostSocket: "\(directory)/\(name).vhost", hostSocket: "\(directory)/\(name).vsock", cid: 3, log: "\(directory)/\(name).log",
            user: user ?? .shared())
        return spec
    }

    /// Another vsock device; its backend runs already.
    func vsock(_ name: String) async throws -> MachineDevice {
        _ = try await backend.start(
            vhostSocket: "\(directory)/\(name).vhost", hostSocket: "\(directory)/\(name).vsock", cid: 3, log: "\(directory)/\(name).log",
            user: .shared())
        return .vsock(.vhostUser(socket: "\(directory)/\(name).vhost", cid: 3))
    }

    func disk(_ name: String, mebibytes: Int = 4, readOnly: Bool) throws -> DiskSpec {
        let path = "\(directory)/\(name).img"
        #expect(FileManager.default.createFile(atPath: path, contents: nil))
        #expect(truncate(path, off_t(mebibytes) << 20) == 0)
        if !readOnly { #expect(chown(path, 64055, 64055) == 0) }
        return DiskSpec(path: path, serial: name, readOnly: readOnly, ephemeral: !readOnly)
    }

    func console(_ spec: MachineSpec) -> String {
        String(decoding: (try? Data(contentsOf: URL(filePath: spec.console?.log ?? ""))) ?? Data(), as: UTF8.self)
    }

    /// Waits until the guest's first program has spoken.
    func waitForGreeting(_ spec: MachineSpec) async throws {
        let began = ContinuousClock.now
        try await eventually("the guest of \(spec.name) greets") { console(spec).contains(SystemTestGround.greeting) }
        SystemTestGround.logger.debug(
            "the guest greets", metadata: ["after": "\(began.duration(to: .now))", "console": "\(console(spec))"])
    }

    /// Ends what a test may have left and removes the directory.
    func close(_ specs: [MachineSpec], _ hypervisor: LibvirtHypervisor) async {
        for spec in specs {
            try? await hypervisor.destroy(spec.id, process: nil)
            try? await backend.stop(hostSocket: "\(directory)/\(spec.name).vsock", process: nil)
        }
        try? FileManager.default.removeItem(atPath: directory)
    }

    private static func makeInitramfs(at path: String, in directory: String) throws {
        let root = "\(directory)/root"
        for name in ["bin", "dev", "proc", "sys"] {
            try FileManager.default.createDirectory(atPath: "\(root)/\(name)", withIntermediateDirectories: true)
        }
        try FileManager.default.copyItem(atPath: "/bin/busybox", toPath: "\(root)/bin/busybox")
        let script = """
            #!/bin/busybox sh
            /bin/busybox mount -t devtmpfs dev /dev
            /bin/busybox mount -t proc proc /proc
            read up rest < /proc/uptime
            echo \(SystemTestGround.greeting) $up > /dev/ttyS0
            case "$(/bin/busybox cat /proc/cmdline)" in
            *test.poweroff*) /bin/busybox poweroff -f;;
            *test.panic*) exit 0;;
            *test.flood*) while :; do /bin/busybox cat /proc/config.gz /proc/kallsyms > /dev/ttyS0; done;;
            *test.count*) i=0; while :; do i=$((i+1)); echo COUNT $i > /dev/ttyS0; /bin/busybox sleep 1; done;;
            esac
            exec /bin/busybox sleep 100000

            """
        try Data(script.utf8).write(to: URL(filePath: "\(root)/init"))
        chmod("\(root)/init", 0o755)
        let archive = try Spawn(
            "/bin/sh", ["-c", "find . | cpio -o -H newc --quiet | gzip -1 > ../initramfs"], directory: root
        ).runAndWait()
        try FileManager.default.removeItem(atPath: root)
        #expect(archive.succeeded, "\(archive.errorText)")
    }
}

/// Looks again and again until it holds; fails after a minute, which only a broken test reaches.
func eventually(_ what: String, _ holds: () async throws -> Bool, sourceLocation: SourceLocation = #_sourceLocation) async throws {
    let end = ContinuousClock.now + .seconds(60)
    while try await !holds() {
        guard ContinuousClock.now < end else {
            Issue.record("not within a minute: \(what)", sourceLocation: sourceLocation)
            throw SwiftletError(.deadlineExceeded, what)
        }
        try await Task.sleep(for: .milliseconds(20))
    }
}

extension AsyncStream where Element == MachineEvent {
    /// The first event that `matches` accepts.
    func first(where matches: @Sendable @escaping (MachineEvent) -> Bool, within limit: Duration = .seconds(60)) async -> MachineEvent? {
        await withTaskGroup(of: MachineEvent?.self) { group in
            group.addTask {
                for await event in self where matches(event) { return event }
                return nil
            }
            group.addTask {
                try? await Task.sleep(for: limit)
                return nil
            }
            defer { group.cancelAll() }
            return await group.next() ?? nil
        }
    }
}
