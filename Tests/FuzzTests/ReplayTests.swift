import Concurrency
import Foundation
import Support
import Testing

/// What fuzzing has begun with and found is run again, with some changes more. `make fuzz` looks for new ones.
@Suite(.timeLimit(.minutes(3))) struct ReplayTests {
    private static func corpus(_ target: FuzzTarget) throws -> [[UInt8]] {
        let directory = try #require(Bundle.module.resourceURL).appendingPathComponent("Corpus/\(target.name)")
        let files = try FileManager.default.contentsOfDirectory(at: directory, includingPropertiesForKeys: nil)
        return try files.sorted { $0.path < $1.path }.map { Array(try Data(contentsOf: $0)) }
    }

    @Test(arguments: FuzzTarget.all.map(\.name)) func noBytesEndTheProcess(_ name: String) async throws {
        let target = try #require(FuzzTarget.all.first { $0.name == name })
        let corpus = try Self.corpus(target)
        #expect(!corpus.isEmpty)
        // Some wait for what they have asked.
        await OwnThread.answer {
            var random = SplitMix(seed: 7)
            target.run([])
            for bytes in corpus {
                target.run(bytes)
                for _ in 0..<40 { target.run(Self.changed(bytes, &random)) }
            }
        }
    }

    private static func changed(_ bytes: [UInt8], _ random: inout SplitMix) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
            let at = Int.random(in: 0..<bytes.count, using: &random)
            switch Int.random(in: 0..<4, using: &random) {
            case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
            case 1: bytes[at] = [0, 0x7F, 0x80, 0xFF, 0x22, 0x2F].randomElement(using: &random) ?? 0
            case 2: bytes.removeSubrange(at..<min(at + Int.random(in: 1...16, using: &random), bytes.count))
            default: bytes.insert(contentsOf: bytes[at..<min(at + 16, bytes.count)], at: at)
            }
        }
        return bytes
    }
}
