import AgentProtocol
import Errors
import Testing

/// Devices that containers can open, whatever nodes they make.
@Suite struct ContainerDeviceTests {
    private let image = TestImage.plain

    @Test func anUnprivilegedContainerOpensTheStandardDevicesOnly() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            let script = """
                for name in null zero full random urandom tty; do [ -c /dev/$name ] || echo no $name; done
                echo x > /dev/null && head -c 1 /dev/zero | wc -c
                mknod /tmp/kmsg c 1 11 && (cat /tmp/kmsg || echo refused)
                mknod /tmp/disk b 7 0 && (head -c 1 /tmp/disk || echo refused)
                """
            let outcome = try await probe.run(image.shell(script))
            #expect(outcome.stdout == "1\nrefused\nrefused\n", "\(outcome.stderr)")
            #expect(outcome.stderr.contains("Operation not permitted"))
        }
    }

    @Test func aDeviceOfTheSpecIsThereWithItsAccess() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.shell("ls -l /dev/inner | cut -c1-10; head -c 1 /dev/inner | wc -c; echo x > /dev/inner || echo refused")
            // /dev/kmsg's number would print the machine's log: a second /dev/zero by another number does not exist, so its own.
            spec.devices = [
                .with {
                    $0.path = "/dev/inner"
                    $0.type = "c"
                    $0.major = 10
                    $0.minor = 229
                    $0.access = "w"
                }
            ]
            let outcome = try await probe.run(spec)
            #expect(outcome.stdout.hasPrefix("crw-rw-rw-\n0\n"), "\(outcome)")
            #expect(outcome.stderr.contains("Operation not permitted"))
        }
    }

    @Test func accessOfOtherLettersIsRefused() async throws {
        try await ProbeClient.with(image) { (probe) async throws in
            var spec = image.spec("true")
            spec.devices = [
                .with {
                    $0.path = "/dev/x"
                    $0.type = "c"
                    $0.access = "rx"
                }
            ]
            let error = await #expect(throws: SwiftletError.self) { try await probe.launch("c", spec) }
            #expect(error?.code == .invalidArgument && error?.message.contains("/dev/x") == true)
        }
    }
}
