import AgentProtocol
import Errors
import Glibc
import Linux
import Testing

@testable import AgentClient

@Suite(.timeLimit(.minutes(1))) struct OutputStreamTests {
    /// An acknowledgement that the guest does not take any more loses nothing of what it has said.
    @Test func allOutputIsTakenFromAGuestThatTakesNoAcknowledgement() async throws {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0 else { throw SwiftletError.system("socketpair") }
        let guest = ends[1]
        defer { close(guest) }
        var frames = OutputFrame(source: .stdout, payload: [1, 2, 3]).encoded
        for source in OutputSource.allCases { frames += OutputFrame(source: source, end: true, payload: []).encoded }
        guard write(guest, frames, frames.count) == frames.count else { throw SwiftletError.system("write") }
        shutdown(guest, Int32(SHUT_RD))
        let stream = try AgentOutputStream(descriptor: ends[0], stdout: 0, stderr: 0, mark: CrashMark(), loop: AgentClient.loop.get())
        var (bytes, sources): ([UInt8], Set<OutputSource>) = ([], [])
        for try await chunk in stream {
            bytes += chunk.bytes
            if chunk.end { sources.insert(chunk.source) }
            stream.acknowledge(stdout: UInt64(bytes.count), stderr: 0)
        }
        #expect(bytes == [1, 2, 3])
        #expect(sources.count == OutputSource.allCases.count)
    }

    /// A hostile guest's tiny frames must not cost more than their bytes.
    @Test func framesOfOneByteComeTogetherWhenNobodyWaitsForThem() async throws {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0 else { throw SwiftletError.system("socketpair") }
        let guest = ends[1]
        defer { close(guest) }
        var frames = (0..<5000).flatMap { OutputFrame(source: .stdout, payload: [UInt8(truncatingIfNeeded: $0)]).encoded }
        frames += OutputFrame(source: .stderr, payload: [7]).encoded
        for source in OutputSource.allCases { frames += OutputFrame(source: source, end: true, payload: []).encoded }
        guard write(guest, frames, frames.count) == frames.count else { throw SwiftletError.system("write") }
        let stream = try AgentOutputStream(descriptor: ends[0], stdout: 0, stderr: 0, mark: CrashMark(), loop: AgentClient.loop.get())
        // All of it is read before the first chunk is taken.
        var left: Int32 = 1
        while left > 0 {
            guard ioctl(ends[0], UInt(FIONREAD), &left) == 0 else { break }
            try await Task.sleep(for: .milliseconds(1))
        }
        var (chunks, bytes): (Int, [OutputSource: [UInt8]]) = (0, [:])
        for try await chunk in stream {
            chunks += 1
            #expect(chunk.offset == UInt64(bytes[chunk.source, default: []].count))
            bytes[chunk.source, default: []] += chunk.bytes
            if bytes[.stdout]?.count == 5000, bytes[.stderr]?.count == 1 { break }
        }
        #expect(bytes[.stdout] == (0..<5000).map { UInt8(truncatingIfNeeded: $0) })
        #expect(chunks < 50)
        stream.close()
    }
}
