import Concurrency
import Errors
import Foundation
import Glibc
import Linux
import Testing

/// The vsock device under a real Linux driver.
@Suite(.serialized, .enabled(if: systemTestsEnabled), .timeLimit(.minutes(20))) struct VsockGuestTests {
    /// Byte number i of both sides' pattern is (i * 31 + (i >> 8)) & 0xff; it repeats after 64 KiB.
    private static let pattern: [UInt8] = (0..<65536).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
    private static let gibibyte = 1 << 30

    private func withMachine(_ body: @escaping @Sendable (VsockMachine) throws -> Void) async throws {
        try await OwnThread.run {
            let machine = try VsockMachine()
            defer { machine.destroy() }
            try body(machine)
        }
    }

    @Test func aGibibyteFromTheGuestIsWhole() async throws {
        try await withMachine { machine in
            let stream = try VsockStream(machine, VsockMachine.source)
            try stream.write(Array("\(Self.gibibyte)\n".utf8))
            var total = 0
            var whole = true
            while true {
                let part = try stream.read()
                if part.isEmpty { break }
                whole = whole && Self.matches(part, from: total)
                total += part.count
            }
            #expect(total == Self.gibibyte)
            #expect(whole)
            try Self.expectSmall(machine)
        }
    }

    @Test func aGibibyteToTheGuestIsWhole() async throws {
        try await withMachine { machine in
            let stream = try VsockStream(machine, VsockMachine.sink)
            for _ in 0..<Self.gibibyte / Self.pattern.count { try stream.write(Self.pattern) }
            stream.endWriting()
            #expect(try stream.readLine() == "\(Self.hash(ofPatterns: Self.gibibyte / Self.pattern.count)) \(Self.gibibyte)")
            try Self.expectSmall(machine)
        }
    }

    @Test func twoHundredStreamsAtOnceAreWhole() async throws {
        try await withMachine { machine in
            let sent = Array(Self.pattern + Self.pattern + Self.pattern + Self.pattern)
            let streams = try (0..<200).map { _ in try VsockStream(machine, VsockMachine.echo) }
            for stream in streams {
                try OwnThread.start {
                    try? stream.write(sent)
                    stream.endWriting()
                }
            }
            for (index, stream) in streams.enumerated() {
                var received: [UInt8] = []
                while true {
                    let part = try stream.read()
                    if part.isEmpty { break }
                    received += part
                }
                #expect(received == sent, "stream \(index)")
            }
        }
    }

    @Test func streamsSurvivePauseAndMemoryHotPlugAndEndWithTheirKernel() async throws {
        try await withMachine { machine in
            let stream = try VsockStream(machine, VsockMachine.echo)
            try machine.monitor("stop")
            try stream.write(Array("paused\n".utf8))
            try machine.monitor("cont")
            #expect(try stream.readLine() == "paused")
            try machine.monitor("object_add memory-backend-memfd,id=more,size=128M,share=on")
            try machine.monitor("device_add pc-dimm,id=dimm1,memdev=more")
            try stream.write(Array("grown\n".utf8))
            #expect(try stream.readLine() == "grown")

            try VsockStream(machine, VsockMachine.control).write(Array("reboot\n".utf8))
            #expect(try stream.read().isEmpty)
            let fresh = try VsockStream(machine, VsockMachine.echo)
            try fresh.write(Array("new kernel\n".utf8))
            #expect(try fresh.readLine() == "new kernel")

            let last = try VsockStream(machine, VsockMachine.control)
            try last.write(Array("poweroff\n".utf8))
            #expect(try last.readLine() == "going")
            try VsockProcess.wait("swiftlet-vsockd to end with QEMU") { !machine.device.isRunning }
            #expect(!FileManager.default.fileExists(atPath: machine.hostSocket))
        }
    }

    @Test func theGuestReachesTheHostsListenersAndNothingElse() async throws {
        try await withMachine { machine in
            let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(listener) }
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: "\(machine.hostSocket)_4000".utf8) }
            let bound = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
            }
            #expect(bound == 0 && listen(listener, 1) == 0)

            let caller = try VsockStream(machine, VsockMachine.call)
            try caller.write(Array("4000\n".utf8))
            let accepted = accept(listener, nil, nil)
            defer { close(accepted) }
            var word = [UInt8](repeating: 0, count: 6)
            #expect(recv(accepted, &word, 6, Int32(MSG_WAITALL)) == 6 && word == Array("guest\n".utf8))
            #expect(send(accepted, Array("host\n".utf8), 5, 0) == 5)
            #expect(try caller.readLine() == "host")

            let refused = try VsockStream(machine, VsockMachine.call)
            try refused.write(Array("4001\n".utf8))
            #expect(try refused.readLine() == "error Connection reset by peer")
            #expect(throws: SwiftletError.self) { try VsockStream(machine, 99) }
        }
    }

    /// Its own memory, without the guest's pages it touched: a few MiB however much went through.
    private static func expectSmall(_ machine: VsockMachine) throws {
        #expect(try machine.device.status("RssAnon") < 8 << 10)
    }

    private static func matches(_ bytes: [UInt8], from offset: Int) -> Bool {
        bytes.withUnsafeBytes { received in
            pattern.withUnsafeBytes { expected in
                guard let received = received.baseAddress, let expected = expected.baseAddress else { return bytes.isEmpty }
                var done = 0
                while done < bytes.count {
                    let place = (offset + done) % pattern.count
                    let count = min(pattern.count - place, bytes.count - done)
                    guard memcmp(received + done, expected + place, count) == 0 else { return false }
                    done += count
                }
                return true
            }
        }
    }

    /// What the guest's sink computes: FNV-1a over little-endian words.
    private static func hash(ofPatterns count: Int) -> String {
        let words = pattern.withUnsafeBytes { Array($0.bindMemory(to: UInt64.self)) }
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for _ in 0..<count {
            words.withUnsafeBufferPointer { words in
                var index = 0
                while index < words.count {
                    hash = (hash ^ words[index]) &* 0x100_0000_01b3
                    index += 1
                }
            }
        }
        let text = String(hash, radix: 16)
        return String(repeating: "0", count: 16 - text.count) + text
    }
}
