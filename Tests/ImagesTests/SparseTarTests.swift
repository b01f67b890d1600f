import Errors
import Foundation
import Support
import Testing

@testable import Images

/// Files with holes, in every form that Debian's GNU tar writes.
@Suite struct SparseTarTests {
    static let forms: [[String]] = [
        ["--format=gnu"], ["--format=oldgnu"], ["--format=pax", "--sparse-version=0.0"], ["--format=pax", "--sparse-version=0.1"],
        ["--format=pax", "--sparse-version=1.0"],
    ]

    /// Offsets and contents of the data, and the size, of files a tar is made of.
    struct File: Sendable {
        var name: String
        var size: UInt64
        var data: [(offset: UInt64, bytes: Data)] = []

        var content: Data {
            var content = Data(count: Int(size))
            for (offset, bytes) in data { content.replaceSubrange(Int(offset)..<(Int(offset) + bytes.count), with: bytes) }
            return content
        }
    }

    static let files = [
        File(name: "hole", size: 3 << 20),
        File(name: "small-hole", size: 6000, data: [(0, noise(1, seed: 3))]),
        File(name: "data-then-hole", size: (2 << 20) + 7, data: [(0, noise(100_000, seed: 4))]),
        File(name: "hole-then-data", size: (2 << 20) + 100, data: [(2 << 20, noise(100, seed: 5))]),
        // More than the 4 of a header and the 21 of an extension.
        File(name: "many", size: 12 << 20, data: (0..<60).map { (UInt64($0) * 200_704, noise(5000 + $0, seed: UInt64($0))) }),
        File(
            name: "deep/" + String(repeating: "n", count: 150), size: 1 << 20,
            data: [(4096, noise(4096, seed: 6)), (500_000, noise(9000, seed: 7))]),
        File(name: "dense", size: 5000, data: [(0, noise(5000, seed: 8))]),
    ]

    private func tar(_ arguments: [String], _ directory: URL) throws -> Data {
        for file in Self.files {
            let path = try directory.file("root/\(file.name)", Data())
            #expect(truncate(path, off_t(file.size)) == 0)
            let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
            for (offset, bytes) in file.data {
                try handle.seek(toOffset: offset)
                try handle.write(contentsOf: bytes)
            }
            try handle.close()
        }
        let archive = directory.appendingPathComponent("sparse.tar").path
        let process = ChildProcess()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        // Zeros are found by reading, whatever the file system says of holes.
        process.arguments =
            ["tar", "--create", "--sparse", "--hole-detection=raw", "--sort=name", "--file", archive]
            + arguments + ["--directory", directory.appendingPathComponent("root").path, "."]
        try process.run()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        return try Data(contentsOf: URL(fileURLWithPath: archive))
    }

    @Test(arguments: forms) func filesWithHolesArriveWhole(_ form: [String]) async throws {
        try await withTestDirectory { directory in
            let bytes = try tar(form, directory)
            #expect(bytes.count < 2 << 20)
            let image = directory.appendingPathComponent("image").path
            let result = try convert(bytes, to: image, in: directory)
            #expect(result.diffID.description == OCIImageBuilder.digest(bytes))
            var status = stat()
            #expect(stat(image, &status) == 0)
            // Holes of a buffer and more stay holes; "many" has none.
            #expect(status.st_size > 20 << 20 && status.st_blocks * 512 < 15 << 20)
            try MountedImage.with(image) { mounted throws in
                #expect(try mounted.names("") == ["data-then-hole", "deep", "dense", "hole", "hole-then-data", "many", "small-hole"])
                for file in Self.files {
                    #expect(try mounted.contents(file.name) == file.content, "\(file.name)")
                    #expect(try mounted.status(file.name).st_mode & S_IFMT == S_IFREG)
                }
            }
        }
    }

    struct Case: Sendable, CustomTestStringConvertible {
        var what: String
        var mentions: String
        var code = SwiftletError.Code.dataLoss
        var limits = LayerLimits()
        var records: [(name: String, value: String)] = []
        var content = ""
        var type: Character = "0"

        var testDescription: String { what }
    }

    private static func mapped(_ map: String, blocks: Int, size: String = "100") -> [(name: String, value: String)] {
        [("GNU.sparse.size", size), ("GNU.sparse.numblocks", "\(blocks)"), ("GNU.sparse.map", map)]
    }

    private static let version1: [(name: String, value: String)] = [
        ("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "100"),
    ]

    private static func block(_ text: String) -> String {
        text + String(repeating: "\0", count: 512 - text.utf8.count)
    }

    static let cases: [Case] = [
        Case(what: "overlap", mentions: "overlap", records: mapped("0,4,2,4", blocks: 2), content: "12345678"),
        Case(what: "disorder", mentions: "overlap", records: mapped("50,4,0,4", blocks: 2), content: "12345678"),
        Case(what: "beyond the end", mentions: "beyond the end", records: mapped("98,4", blocks: 1), content: "1234"),
        Case(what: "overflow", mentions: "beyond the end", records: mapped("18446744073709551615,4", blocks: 1), content: "1234"),
        Case(what: "too little data", mentions: "where its map has 8", records: mapped("0,8", blocks: 1), content: "1234"),
        Case(what: "too much data", mentions: "where its map has 2", records: mapped("0,2", blocks: 1), content: "1234"),
        Case(what: "fewer ranges than said", mentions: "as many ranges", records: mapped("0,4", blocks: 2), content: "1234"),
        Case(what: "offset without length", mentions: "as many ranges", records: mapped("0,4,5", blocks: 1), content: "1234"),
        Case(what: "no number", mentions: "bad number", records: mapped("0,-4", blocks: 1), content: "1234"),
        Case(what: "no size", mentions: "bad number", records: mapped("0,4", blocks: 1, size: ""), content: "1234"),
        Case(what: "a directory", mentions: "no file", records: mapped("0,4", blocks: 1), type: "5"),
        Case(
            what: "lengths first", mentions: "out of order", records: [("GNU.sparse.numbytes", "1"), ("GNU.sparse.offset", "0")],
            content: "1"),
        Case(
            what: "a version of the future", mentions: "version 2.0", code: .unimplemented,
            records: [("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")], content: "1"),
        Case(what: "map cut off", mentions: "cut off", records: version1, content: block("3\n0\n1\n")),
        Case(what: "map without a line", mentions: "cut off", records: version1, content: String(repeating: "1", count: 600)),
        Case(what: "endless map", mentions: "more than 262144 ranges", records: version1, content: block("18446744073709551615\n")),
        Case(what: "empty map data", mentions: "cut off", records: version1),
        Case(
            what: "holes beyond the limit", mentions: "sparse files exceed 1000000 bytes", code: .resourceExhausted,
            limits: LayerLimits(bytes: 1_000_000), records: mapped("0,4", blocks: 1, size: "1000005"), content: "1234"),
        Case(
            what: "a file of exabytes", mentions: "exceed", code: .resourceExhausted,
            records: mapped("0,4", blocks: 1, size: "4000000000000000000"), content: "1234"),
        Case(what: "GNU type in another format", mentions: "not GNU tar's", content: "1234", type: "S"),
    ]

    @Test(arguments: cases) func badMapsAreRefusedNamingTheEntry(_ bad: Case) async throws {
        var tar = TarBuilder()
        if !bad.records.isEmpty { tar.pax(bad.records) }
        tar.entry("sparse", type: bad.type, content: Data(bad.content.utf8))
        let bytes = tar.finished()
        try await withTestDirectory { directory in
            let image = directory.appendingPathComponent("image").path
            let error = #expect(throws: SwiftletError.self) { try convert(bytes, to: image, in: directory, limits: bad.limits) }
            #expect(error?.code == bad.code)
            #expect(error?.message.contains(bad.mentions) == true, "\(error?.message ?? "")")
            #expect(error?.message.contains("sparse") == true)
            #expect(!FileManager.default.fileExists(atPath: image))
        }
    }
}
