import Foundation
import Support
import Testing

@testable import DiskFormats

extension HostileDisk: CustomTestStringConvertible {
    public var testDescription: String { name }
}

/// What is read of an image before a machine has it.
@Suite(.timeLimit(.minutes(2))) struct QcowTests {
    @Test(arguments: HostileDisk.all) func aHostileImageIsRefusedByName(_ disk: HostileDisk) throws {
        let refusal = #expect(throws: DiskRefusal.self) { try DiskGeometry(of: DiskBytes(disk.bytes)) }
        #expect(refusal?.reason.contains(disk.reason) == true, "\(refusal?.reason ?? "taken")")
    }

    @Test func whatQEMUWritesIsTaken() throws {
        let sound: [(QcowBuilder) -> QcowBuilder] = [
            { $0 }, { $0.with { $0.version = 2 } },
            { $0.with { ($0.headerLength, $0.compression) = (112, 0) } },
            { $0.with { ($0.incompatible, $0.headerLength, $0.compression) = (8, 112, 1) } },
            { $0.with { $0.incompatible = 16 } },
            // Names of features, and an extension that nobody knows.
            {
                $0.with {
                    $0.extensions =
                        QcowBuilder.header(extension: 0x6803_f857, [UInt8](repeating: 1, count: 48))
                        + QcowBuilder.header(extension: 0x1234_5678, [1, 2, 3])
                }
            },
            // An L2 table, a cluster of zeros, and one of data that the file ends in.
            {
                $0.with {
                    $0.length = 5 << 16 + 4096
                    $0.words = [(0x30000, 0x40000 | 1 << 63), (0x40000, 1), (0x40008, 0x50000 | 1 << 63)]
                }
            },
            { $0.with { ($0.snapshots, $0.words) = ((1, 0x20000), [(0x20000, 0x30000), (0x20008, 16 << 32), (0x20010, 0)]) } },
        ]
        for change in sound {
            let geometry = try DiskGeometry(of: DiskBytes(change(QcowBuilder()).built()))
            #expect(geometry == DiskGeometry(format: .qcow2, virtualSize: 1 << 30))
        }
    }

    @Test func aRawDiskIsAnythingElseOfWholeSectors() throws {
        let empty = DiskBytes([UInt8](repeating: 0, count: 65536))
        #expect(try DiskGeometry(of: empty) == DiskGeometry(format: .raw, virtualSize: 65536))
        #expect(throws: DiskRefusal("it is no qcow2 image: its first bytes are not those of one")) {
            try DiskGeometry(of: empty, saidToBe: .qcow2)
        }
    }

    /// A guest writes what it wants to a raw disk, also a header that names a file of the node.
    @Test func anImageThatLooksLikeQcow2IsRawWhereThatIsSaid() throws {
        let hostile = DiskBytes(QcowBuilder().with { ($0.backing, $0.texts) = ((200, 11), [(200, "/etc/passwd")]) }.built())
        #expect(throws: DiskRefusal.self) { try DiskGeometry(of: hostile) }
        #expect(try DiskGeometry(of: hostile, saidToBe: .raw) == DiskGeometry(format: .raw, virtualSize: 4 << 16))
    }

    /// Whatever bytes are changed, the checks come to an end, within the file.
    @Test func changedImagesAreJudgedWithinTheirBounds() throws {
        let seeds = [QcowBuilder().with { $0.words = [(0x30000, 0x20000 | 1 << 63)] }.built()] + HostileDisk.all.map(\.bytes)
        var random = SplitMix(seed: 11)
        for round in 0..<10_000 {
            var bytes = seeds[round % seeds.count]
            for _ in 0..<Int.random(in: 1...6, using: &random) where !bytes.isEmpty {
                // The header and the beginnings of the tables.
                let at = min(Int.random(in: 0..<4, using: &random) << 16 + Int.random(in: 0..<160, using: &random), bytes.count - 1)
                bytes[at] =
                    Bool.random(using: &random)
                    ? .random(in: 0...255, using: &random) : [0, 1, 0x7f, 0x80, 0xff].randomElement(using: &random) ?? 0
            }
            if let geometry = try? DiskGeometry(of: DiskBytes(bytes)) {
                #expect(geometry.virtualSize > 0 && geometry.virtualSize <= DiskGeometry.largestDisk)
            }
        }
    }
}
