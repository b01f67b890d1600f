import CLinux
import Errors
import Foundation
import Glibc
import Support
import Testing

@testable import VsockDevice

@Suite struct LifecycleTests {
    @Test func qemusQuestionsAreAnswered() async throws {
        try await withDriver { device, driver in
            let answer = try driver.configuration()
            #expect(Array(answer[12...]) == VhostUserDriver.payload(GuestStack.cid))
            // A request the device does not know is refused, not ignored, when QEMU asks.
            try driver.send(.setOwner, needReply: true, raw: 4242)
            #expect(try driver.reply64() != 0)
        }
    }

    @Test func socketsHaveTheirModesAndGoWhenQEMULeaves() async throws {
        try await onThread {
            let device = try DeviceUnderTest()
            #expect(mode(device.vhostSocket) == 0o600)
            #expect(mode(device.hostSocket) == 0o600)
            let driver = try VhostUserDriver(path: device.vhostSocket)
            try driver.realize()
            driver.disconnect()
            try waitFor { device.leftovers.isEmpty }
            #expect(try device.join() == .machineLeft)
        }
    }

    /// One that comes first does not take QEMU's place, neither by the socket's mode nor where that does not hold.
    @Test(.enabled(if: geteuid() == 0)) func whoIsNotQEMUIsTurnedAway() async throws {
        try await onThread {
            let device = try DeviceUnderTest(machineUser: 2_001_300_000)
            #expect(mode(device.vhostSocket) == 0o600)
            chmod(device.directory, 0o755)
            var status = stat()
            #expect(stat(device.vhostSocket, &status) == 0 && status.st_uid == 2_001_300_000)
            let kvm = try #require(getgrnam("kvm")).pointee.gr_gid
            for group in [65534, kvm] { #expect(try GreetingProcess.run(device.vhostSocket, 65534, group) == "refused") }
            // As root, whom no mode keeps out.
            for _ in 0..<32 {
                let driver = try VhostUserDriver(path: device.vhostSocket)
                #expect(throws: (any Error).self) { try driver.realize() }
            }
            #expect(try GreetingProcess.run(device.vhostSocket, 2_001_300_000, kvm) == "served")
            #expect(try device.join() == .machineLeft)
        }
    }

    @Test func staleSocketsAreReplacedAndOtherFilesAreNot() async throws {
        try await onThread {
            let device = try DeviceUnderTest()
            var options = VsockDeviceOptions(vhostSocket: device.directory + "/a", hostSocket: device.directory + "/b", guestCID: 3)
            let stale = clinux_unix_socket()
            #expect(clinux_unix_bind(stale, options.hostSocket, 0o600) == 0)
            close(stale)
            _ = try VsockDevice(options)
            #expect(!device.leftovers.contains("b"))
            close(open(device.directory + "/file", O_CREAT | O_WRONLY, 0o600))
            options.vhostSocket = device.directory + "/file"
            #expect(throws: SwiftletError.self) { try VsockDevice(options) }
            #expect(device.leftovers.contains("file"))
            try device.stop()
        }
    }

    @Test func impossibleOptionsAreRefused() {
        let long = "/tmp/" + String(repeating: "x", count: 100)
        for options in [
            VsockDeviceOptions(vhostSocket: "/tmp/a", hostSocket: "/tmp/b", guestCID: 2),
            VsockDeviceOptions(vhostSocket: "/tmp/a", hostSocket: "/tmp/b", guestCID: 1 << 32),
            VsockDeviceOptions(vhostSocket: "/tmp/a", hostSocket: long, guestCID: 3),
            VsockDeviceOptions(vhostSocket: long + "/abc", hostSocket: "/tmp/b", guestCID: 3),
            VsockDeviceOptions(vhostSocket: "/tmp/a", hostSocket: "/tmp/a", guestCID: 3),
        ] {
            let error = #expect(throws: SwiftletError.self) { try VsockDevice(options) }
            #expect(error?.code == .invalidArgument)
        }
    }

    @Test func clientsWaitForTheDriver() async throws {
        try await onThread {
            let device = try DeviceUnderTest()
            let client = try HostClient(path: device.hostSocket)
            try client.write("CONNECT 5\n")
            let driver = try VhostUserDriver(path: device.vhostSocket)
            try driver.realize()
            try driver.startDriver()
            let request = try driver.expect(VsockOperation.request)
            try driver.answer(request, VsockOperation.response)
            #expect(try client.readLine() == "OK 5")
            driver.disconnect()
            _ = try device.join()
        }
    }

    @Test func aClientWithoutDriverIsToldAfterAWhile() async throws {
        try await onThread {
            let device = try DeviceUnderTest { $0.bootTime = 20_000_000 }
            let client = try HostClient(path: device.hostSocket)
            try client.write("CONNECT 5\n")
            #expect(try client.readLine() == "ERROR the guest's vsock driver does not run")
            try device.stop()
        }
    }

    @Test func earlyRefusalsAreRetriedUnderFreshPorts() async throws {
        try await withDriver { device, driver in
            let client = try HostClient(path: device.hostSocket)
            try client.write("CONNECT 5\n")
            var ports: Set<UInt32> = []
            for _ in 0..<4 {
                let request = try driver.expect(VsockOperation.request)
                ports.insert(request.sourcePort)
                try driver.answer(request, VsockOperation.reset)
            }
            let request = try driver.expect(VsockOperation.request)
            try driver.answer(request, VsockOperation.response)
            #expect(try client.readLine() == "OK 5")
            #expect(ports.count == 4 && !ports.contains(request.sourcePort))
        }
    }

    @Test func aPortNobodyListensOnIsAnError() async throws {
        try await withGuest({ ($0.settleTime, $0.retryTime) = (0, 20_000_000) }) { device in
            let client = try HostClient(path: device.hostSocket)
            try client.write("CONNECT \(GuestStack.closedPort)\n")
            #expect(try client.readLine() == "ERROR nobody listens on port \(GuestStack.closedPort) of the guest")
            #expect(try client.readToEnd().isEmpty)
        }
    }

    @Test func aGuestThatDoesNotAnswerIsAnErrorInTime() async throws {
        try await withDriver({ $0.answerTime = 20_000_000 }) { device, driver in
            let client = try HostClient(path: device.hostSocket)
            try client.write("CONNECT 5\n")
            #expect(try client.readLine() == "ERROR the guest does not answer")
        }
    }

    @Test func streamsSurviveAPausedMachine() async throws {
        try await withDriver { device, driver in
            let (client, request) = try driver.accept(device, port: 5)
            let bases = try driver.stopQueues()
            #expect(bases == [1, 1])
            try client.write("while paused")
            try driver.answer(request, VsockOperation.data, bytes: Array("also\n".utf8))
            try driver.startQueues(bases: bases)
            #expect(try driver.next()?.payload == Array("while paused".utf8))
            #expect(try client.readLine() == "also")
        }
    }

    @Test func aNewDriverEndsTheStreamsOfTheOldAndGetsItsOwn() async throws {
        try await withDriver { device, driver in
            let (client, _) = try driver.accept(device, port: 5)
            let pending = try HostClient(path: device.hostSocket)
            try pending.write("CONNECT 6\n")
            _ = try driver.expect(VsockOperation.request)
            _ = try driver.stopQueues()
            try driver.startDriver()
            #expect(try client.readToEnd().isEmpty)
            // A client that had no answer yet is served by the new one.
            let request = try driver.expect(VsockOperation.request)
            #expect(request.destinationPort == 6)
            try driver.answer(request, VsockOperation.response)
            #expect(try pending.readLine() == "OK 6")
            let (fresh, _) = try driver.accept(device, port: 5)
            try fresh.write("new")
            #expect(try driver.next()?.payload == Array("new".utf8))
        }
    }

    @Test func memoryHotPlugMovesRingsUnderARunningStream() async throws {
        try await withDriver { device, driver in
            let (client, request) = try driver.accept(device, port: 5)
            let added = MemoryRegion(guestAddress: 2 << 32, size: 4 << 20, userAddress: 0x7fc0_0000_0000, fileOffset: 10 << 20)
            for regions in [[added, VhostUserDriver.high, VhostUserDriver.low], [VhostUserDriver.low, VhostUserDriver.high]] {
                try driver.setMemory(regions)
                try client.write("in")
                #expect(try driver.next()?.payload == Array("in".utf8))
                try driver.answer(request, VsockOperation.data, bytes: Array("out\n".utf8))
                #expect(try client.readLine() == "out")
            }
        }
    }

    @Test func aBufferMayRunFromOneRegionIntoTheNext() async throws {
        try await withDriver { device, driver in
            let (client, request) = try driver.accept(device, port: 5)
            let half = VhostUserDriver.high.size / 2
            var (first, second) = (VhostUserDriver.high, VhostUserDriver.high)
            (first.size, second.size) = (half, half)
            (second.guestAddress, second.userAddress, second.fileOffset) =
                (second.guestAddress + half, second.userAddress + half, second.fileOffset + half)
            try driver.setMemory([VhostUserDriver.low, first, second])
            // Header and data in one descriptor, with the border in the header.
            var header = VsockHeader(
                sourceCID: GuestStack.cid, destinationCID: 2, sourcePort: 5, destinationPort: request.sourcePort,
                operation: VsockOperation.data)
            header.length = 6
            header.bufferAllocation = 1000
            let place = driver.bytes + Int(first.fileOffset + half) - 10
            header.store(to: place)
            memcpy(place + 44, "across\n", 7)
            driver.writeDescriptor(VhostUserDriver.transmit, 126, first.guestAddress + half - 10, 50, flags: 0)
            driver.makeAvailable(VhostUserDriver.transmit, head: 126)
            driver.kick(VhostUserDriver.transmit)
            #expect(try client.read(exactly: 6) == Array("across".utf8))
        }
    }

    @Test func lastBytesReachASlowReaderAfterTheMachineIsGone() async throws {
        try await withDriver({ $0.drainTime = 30_000_000_000 }) { device, driver in
            let (client, request) = try driver.accept(device, port: 5)
            let chunk = [UInt8](repeating: 5, count: VhostUserDriver.transmitBuffer)
            // More than a unix socket holds, less than that and the window.
            for _ in 0..<6 { try driver.answer(request, VsockOperation.data, bytes: chunk) }
            driver.disconnect()
            #expect(try client.readToEnd().count == 6 * chunk.count)
        }
    }

    @Test(arguments: [
        [UInt8](repeating: 0xff, count: 64),
        [1, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f],
        [8, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 128, 0, 0, 0],
        [8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        [5, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 200, 0, 0, 0, 0, 0, 0, 0],
        [5, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        [2, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        [12, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        [24, 0, 0, 0, 1, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0, 0, 0],
    ])
    func bytesThatAreNoVhostUserEndTheProcessWithAReason(message: [UInt8]) async throws {
        try await onThread {
            let device = try DeviceUnderTest()
            let driver = try VhostUserDriver(path: device.vhostSocket)
            #expect(clinux_send(driver.socket, message, message.count) == message.count)
            let error = #expect(throws: SwiftletError.self) { try device.join() }
            #expect(error?.code == .invalidArgument)
        }
    }

    @Test func memoryTablesThatCannotBeAreRefused() throws {
        let memfd = clinux_memfd("short")
        defer { close(memfd) }
        #expect(ftruncate(memfd, 1 << 20) == 0)
        let good = MemoryRegion(guestAddress: 0, size: 1 << 20, userAddress: 0, fileOffset: 0)
        func change(_ change: (inout MemoryRegion) -> Void) -> MemoryRegion {
            var region = good
            change(&region)
            return region
        }
        let impossible = [
            [change { $0.size = 2 << 20 }], [change { $0.size = 0 }], [change { $0.fileOffset = 4096 }],
            [change { $0.fileOffset = .max }], [change { $0.guestAddress = .max - 10 }], [change { $0.userAddress = .max - 10 }],
            [good, change { ($0.guestAddress, $0.size, $0.userAddress) = (4096, 4096, 1 << 40) }],
        ]
        for regions in impossible {
            #expect(throws: SwiftletError.self) { try GuestMemory(regions, descriptors: regions.map { _ in memfd }) }
        }
        let memory = try GuestMemory([good], descriptors: [memfd])
        #expect(memory.bytes(atGuest: (1 << 20) - 4, 8)?.count == 4)
        #expect(memory.bytes(atGuest: 1 << 20, 1) == nil)
        #expect(memory.bytes(atUser: (1 << 20) - 4, 8) == nil)
        #expect(memory.bytes(atUser: (1 << 20) - 4, 4) != nil)
        #expect(memory.bytes(atUser: 4, .max) == nil)
    }

    private func mode(_ path: String) -> mode_t {
        var status = stat()
        return lstat(path, &status) == 0 ? status.st_mode & 0o7777 : 0
    }
}

/// Asks for the features of a vhost-user device as somebody else.
private enum GreetingProcess {
    /// GET_FEATURES, and its answer of 8 bytes behind a header of 12.
    private static let script = """
        import socket, struct, sys
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(sys.argv[1])
            s.send(struct.pack("<III", 1, 1, 0))
            print("served" if len(s.recv(20)) == 20 else "turned away")
        except PermissionError:
            print("refused")
        """

    /// Blocks.
    static func run(_ socket: String, _ user: uid_t, _ group: gid_t) throws -> String {
        let (process, output) = (ChildProcess(), Pipe())
        process.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
        process.arguments = [
            "--reuid", "\(user)", "--regid", "\(group)", "--clear-groups", "/usr/bin/python3", "-c", script, socket,
        ]
        process.standardOutput = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return text.trimmingCharacters(in: .whitespacesAndNewlines)
    }
}
