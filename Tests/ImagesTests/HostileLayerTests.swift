import Errors
import Foundation
import Support
import Testing

@testable import Images

/// Layers made to do harm: each is refused with a message that names the entry, and leaves nothing.
@Suite struct HostileLayerTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var what: String
        var mentions: String
        var code = SwiftletError.Code.invalidArgument
        var limits = LayerLimits()
        var make: @Sendable (inout TarBuilder) -> Void

        var testDescription: String { what }
    }

    static let cases: [Case] = [
        Case(what: "parent of the root", mentions: "../evil") { $0.file("../evil", "x") },
        Case(what: "parent in the middle", mentions: "a/../../evil") { $0.file("a/../../evil", "x") },
        Case(what: "absolute with parents", mentions: "/../../etc/passwd") { $0.file("/../../etc/passwd", "x") },
        Case(what: "hard link out", mentions: "../../etc/shadow") { $0.hardLink("link", to: "../../etc/shadow") },
        Case(what: "hard link to a whiteout", mentions: "gone") {
            $0.file(".wh.gone", "")
            $0.hardLink("link", to: "gone")
        },
        Case(what: "device number too wide", mentions: "4096:1") { $0.characterDevice("dev", major: 4096, minor: 1) },
        Case(what: "minor number too wide", mentions: "1:1048576") { $0.characterDevice("dev", major: 1, minor: 1 << 20) },
        Case(what: "hard link to a directory", mentions: "dir") {
            $0.directory("dir")
            $0.hardLink("dir/loop", to: "dir")
        },
        Case(what: "file as a directory", mentions: "file/below") {
            $0.file("file", "x")
            $0.file("file/below", "x")
        },
        Case(what: "symlink loop", mentions: "a/x") {
            $0.symlink("a", to: "b")
            $0.symlink("b", to: "a")
            $0.file("a/x", "x")
        },
        Case(what: "root as a file", mentions: "\"./\"") { $0.symlink("./", to: "/etc") },
        Case(what: "whiteout of nothing", mentions: ".wh.") { $0.file("dir/.wh.", "") },
        Case(what: "whiteout of the parent", mentions: ".wh...") { $0.file("dir/.wh...", "") },
        Case(what: "name too long", mentions: "256 bytes") { $0.file(String(repeating: "n", count: 256), "x") },
        Case(what: "path too long", mentions: "5000 bytes") { $0.file(String(repeating: "n/", count: 2500), "x") },
        Case(what: "empty symlink", mentions: "link") { $0.symlink("link", to: "") },
        Case(what: "too deep", mentions: "deeper than 1000") { tar in
            tar.file(String(repeating: "d/", count: 1001) + "f", "x")
        },
        Case(what: "too many entries", mentions: "more than the 10", code: .resourceExhausted, limits: LayerLimits(entries: 10)) { tar in
            for index in 0..<11 { tar.file("f\(index)", "") }
        },
        Case(
            what: "too many implied directories", mentions: "more than the 10000 files and directories", code: .resourceExhausted,
            limits: LayerLimits(nodes: 10_000)
        ) { tar in
            for index in 0..<11 { tar.file("\(index)/" + String(repeating: "d/", count: 950) + "f", "") }
        },
        Case(
            what: "too many hard links", mentions: "more than the 10 files", code: .resourceExhausted, limits: LayerLimits(nodes: 10)
        ) { tar in
            tar.file("f", "")
            for index in 0..<10 { tar.hardLink("l\(index)", to: "f") }
        },
        Case(
            what: "too many whiteouts", mentions: "more than the 10 files", code: .resourceExhausted, limits: LayerLimits(nodes: 10)
        ) { tar in
            for index in 0..<11 { tar.file(".wh.f\(index)", "") }
        },
        Case(
            what: "names and links too long together", mentions: "names and links exceed 100000 bytes", code: .resourceExhausted,
            limits: LayerLimits(nameBytes: 100_000)
        ) { tar in
            for index in 0..<26 { tar.symlink("l\(index)", to: String(repeating: "t", count: 4000)) }
        },
        Case(
            what: "links that lead through too many names", mentions: "more than 100000 names", code: .resourceExhausted,
            limits: LayerLimits(steps: 100_000)
        ) { tar in
            tar.directory("d")
            let target = String(repeating: "d/../", count: 400) + "d"
            for index in 0..<30 { tar.symlink("l\(index)", to: index == 0 ? target : "l\(index - 1)/../" + target) }
            for index in 0..<100 { tar.file("l29/f\(index)", "") }
        },
        Case(
            what: "too many small attributes", mentions: "extended attributes exceed 100000 bytes", code: .resourceExhausted,
            limits: LayerLimits(xattrBytes: 100_000)
        ) { tar in
            let xattrs = Dictionary(uniqueKeysWithValues: (0..<200).map { ("user.\($0)", "") })
            for index in 0..<10 { tar.file("f\(index)", Data(), xattrs: xattrs) }
        },
        Case(what: "endless extended headers", mentions: "more than 16 extended headers", code: .dataLoss) { tar in
            for _ in 0..<17 { tar.entry("p", type: "x", content: Data("10 path=f\n".utf8)) }
            tar.file("f", "x")
        },
        Case(what: "too large", mentions: "exceeds 100000 bytes", code: .resourceExhausted, limits: LayerLimits(bytes: 100_000)) { tar in
            tar.file("f", Data(count: 200_000))
        },
        Case(what: "size beyond the archive", mentions: "ends within", code: .dataLoss) { tar in
            tar.entry("f", type: "0", content: Data("x".utf8), announcedSize: 1 << 30)
        },
        Case(what: "unknown type", mentions: "unknown type", code: .dataLoss) { $0.entry("f", type: "Z") },
        Case(what: "pax header too large", mentions: "extended header", code: .dataLoss) { tar in
            tar.entry("p", type: "x", content: Data(), announcedSize: 1 << 30)
        },
        Case(what: "malformed pax header", mentions: "malformed", code: .dataLoss) {
            $0.entry("p", type: "x", content: Data("999 a=b\n".utf8))
        },
        Case(what: "negative pax size", mentions: "bad number", code: .dataLoss) {
            $0.entry("p", type: "x", content: Data("11 size=-1\n".utf8))
        },
        Case(what: "huge pax size", mentions: "announces", code: .dataLoss) { tar in
            tar.entry("p", type: "x", content: Data("29 size=18446744073709551615\n".utf8))
            tar.file("f", "x")
        },
        Case(what: "attributes too large", mentions: "extended attributes") { tar in
            tar.file(
                "f", Data(), xattrs: ["user.a": String(repeating: "a", count: 40_000), "user.b": String(repeating: "b", count: 40_000)])
        },
    ]

    @Test(arguments: cases) func isRefusedNamingTheEntry(_ hostile: Case) async throws {
        var tar = TarBuilder()
        hostile.make(&tar)
        let bytes = tar.finished()
        try await withTestDirectory { directory in
            let image = directory.appendingPathComponent("image").path
            let error = #expect(throws: SwiftletError.self) { try convert(bytes, to: image, in: directory, limits: hostile.limits) }
            #expect(error?.code == hostile.code)
            #expect(error?.message.contains(hostile.mentions) == true, "\(error?.message ?? "")")
            #expect(!FileManager.default.fileExists(atPath: image))
        }
    }

    /// A hundred kilobytes that unpack to millions of directories no member names: 600 bytes of memory for each would be gigabytes.
    @Test func millionsOfImpliedDirectoriesAreRefusedWithinBoundedMemory() async throws {
        var tar = TarBuilder()
        for index in 0..<2200 { tar.file("\(index)/" + String(repeating: "d/", count: 990) + "f", "") }
        let compressed = try OCIImageBuilder.compress(tar.finished(), .gzip)
        #expect(compressed.count < 200_000)
        try await withTestDirectory { directory in
            let image = directory.appendingPathComponent("image").path
            let before = try PeakMemory.reset()
            let error = #expect(throws: SwiftletError.self) { try convert(compressed, to: image, in: directory) }
            #expect(error?.code == .resourceExhausted)
            #expect(error?.message.contains("more than the 2000000 files and directories") == true, "\(error?.message ?? "")")
            #expect(try PeakMemory.bytes() - before < 1 << 30)
            #expect(!FileManager.default.fileExists(atPath: image))
        }
    }

    @Test func absolutePathsAndSymlinksStayInside() async throws {
        var tar = TarBuilder()
        tar.file("/etc/hosts", "inside")
        tar.symlink("out", to: "/../../tmp")
        tar.file("out/file", "still inside")
        try await withConverted(tar.finished()) { image throws in
            #expect(try image.contents("etc/hosts") == Data("inside".utf8))
            #expect(try image.contents("tmp/file") == Data("still inside".utf8))
        }
    }

    @Test func depthThroughSymlinksIsBounded() async throws {
        var tar = TarBuilder()
        var link = ""
        for step in 0..<40 {
            let deep = String(repeating: "d/", count: 99)
            tar.directory("\(link)\(deep)")
            tar.symlink("l\(step)", to: "\(link)\(deep)")
            link = "l\(step)/"
        }
        let bytes = tar.finished()
        try await withTestDirectory { directory in
            #expect(throws: SwiftletError.self) {
                try convert(bytes, to: directory.appendingPathComponent("image").path, in: directory)
            }
        }
    }

    /// Bytes that are wrong anywhere end in an error or a mountable image, never in a crash.
    @Test func mutatedTarsNeverCrash() async throws {
        var tar = TarBuilder()
        tar.directory("dir", xattrs: ["user.x": "y"])
        tar.file("dir/file", noise(5000))
        tar.symlink("dir/link", to: "file")
        tar.hardLink("hard", to: "dir/file")
        tar.file(String(repeating: "p/", count: 80) + "f", "x")
        let original = tar.finished()
        try await withTestDirectory { directory in
            let choices = noise(8 * 600, seed: 42)
            for round in 0..<300 {
                var bytes = original
                for change in 0..<2 {
                    let at = (round * 2 + change) * 8
                    let offset = Int(choices[at]) << 16 | Int(choices[at + 1]) << 8 | Int(choices[at + 2])
                    bytes[offset % bytes.count] = choices[at + 3]
                }
                repairChecksums(&bytes)
                let image = directory.appendingPathComponent("image-\(round)").path
                _ = try? convert(bytes, to: image, in: directory)
            }
        }
    }

    /// Gives every block that has a checksum field the right one, so that changes get past it.
    private func repairChecksums(_ bytes: inout Data) {
        for start in stride(from: 0, to: bytes.count - 511, by: 512) where bytes[start + 257..<start + 262] == Data("ustar".utf8) {
            var sum = 8 * 32
            for index in 0..<512 where !(148..<156).contains(index) { sum += Int(bytes[start + index]) }
            let digits = String(sum, radix: 8)
            let field = String(repeating: "0", count: 6 - digits.count) + digits + "\u{0} "
            bytes.replaceSubrange(start + 148..<start + 156, with: Data(field.utf8))
        }
    }
}
