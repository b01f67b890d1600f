import Concurrency
import Errors
import Glibc
import Testing

@Suite(.timeLimit(.minutes(3))) struct OwnThreadTests {
    @Test func workRunsOnAThreadOfItsOwnAndItsOutcomeComesBack() async throws {
        let here = pthread_self()
        #expect(try OwnThread.runAndWait { pthread_self() } != here)
        #expect(try await OwnThread.run { 7 } == 7)
        #expect(await OwnThread.answer { 8 } == 8)
        await #expect(throws: SwiftletError.self) { try await OwnThread.run { throw SwiftletError(.notFound, "no") } }
        #expect(throws: SwiftletError.self) { try OwnThread.runAndWait { throw SwiftletError(.notFound, "no") } }
    }

    @Test func threadsThatBlockDoNotHoldUpTheCooperativePool() async throws {
        var pipe: [Int32] = [0, 0]
        #expect(Glibc.pipe(&pipe) == 0)
        let (reader, writer) = (pipe[0], pipe[1])
        let blocked = (0..<16).map { _ in
            Task {
                try await OwnThread.run {
                    var byte: UInt8 = 0
                    return read(reader, &byte, 1)
                }
            }
        }
        var bytes = [UInt8](repeating: 1, count: 16)
        #expect(await Task { write(writer, &bytes, 16) }.value == 16)
        for task in blocked { #expect(try await task.value == 1) }
        close(reader)
        close(writer)
    }
}
