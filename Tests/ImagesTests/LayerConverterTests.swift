import Errors
import Foundation
import Support
import Testing

@testable import Images

@Suite struct LayerConverterTests {
    @Test func everythingATarSaysIsInTheDiskImage() async throws {
        let big = noise(3 << 20)
        let capability = "\u{1}\u{0}\u{0}\u{2}\u{0}\u{20}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}"
        var tar = TarBuilder()
        tar.directory("./", mode: 0o711, uid: 5)
        tar.directory("tmp", mode: 0o1777)
        tar.file(
            "bin/tool", Data("#!/bin/sh\n".utf8), mode: 0o4755, uid: 70_000, gid: 4_000_000_000, mtime: 1_234_567_890,
            xattrs: ["security.capability": capability, "user.note": "hello"])
        tar.file("big", big)
        tar.file("empty", "")
        tar.file("block", Data(repeating: 7, count: 4096))
        tar.symlink("etc/link", to: "../../outside")
        tar.hardLink("etc/second", to: "bin/tool")
        tar.characterDevice("dev/null", major: 1, minor: 3)
        tar.characterDevice("dev/odd", major: 259, minor: 70_000)
        tar.characterDevice("dev/widest", major: 4095, minor: (1 << 20) - 1)
        tar.fifo("run/fifo")
        tar.file("long/" + String(repeating: "d/", count: 100) + String(repeating: "n", count: 255), "deep")
        tar.file("naïve/文件\n", "named")
        try await withConverted(tar.finished()) { image throws in
            #expect(try image.status("").st_mode == S_IFDIR | 0o711)
            #expect(try image.status("").st_uid == 5)
            #expect(try image.status("tmp").st_mode == S_IFDIR | 0o1777)
            let tool = try image.status("bin/tool")
            #expect(tool.st_mode == S_IFREG | 0o4755)
            #expect(tool.st_uid == 70_000)
            #expect(tool.st_gid == 4_000_000_000)
            #expect(tool.st_mtim.tv_sec == 1_234_567_890)
            #expect(tool.st_nlink == 2)
            #expect(try tool.st_ino == image.status("etc/second").st_ino)
            #expect(image.xattr("bin/tool", "security.capability") == Data(capability.utf8))
            #expect(image.xattr("bin/tool", "user.note") == Data("hello".utf8))
            #expect(try image.contents("bin/tool") == Data("#!/bin/sh\n".utf8))
            #expect(try image.contents("big") == big)
            #expect(try image.contents("empty").isEmpty)
            #expect(try image.contents("block") == Data(repeating: 7, count: 4096))
            #expect(try image.link("etc/link") == "../../outside")
            #expect(try image.status("dev/null").st_rdev == 0x103)
            #expect(try image.status("dev/odd").st_mode & S_IFMT == S_IFCHR)
            // makedev(259, 70000), as glibc has it.
            #expect(try image.status("dev/odd").st_rdev == 70_000 & 0xff | 259 << 8 | (70_000 & ~0xff) << 12)
            #expect(try image.status("dev/widest").st_rdev == 0xffff_ffff)
            #expect(try image.status("run/fifo").st_mode & S_IFMT == S_IFIFO)
            #expect(try image.contents("naïve/文件\n") == Data("named".utf8))
            #expect(try image.status("bin").st_mode == S_IFDIR | 0o755)
            #expect(try image.status("").st_nlink == 9)
        }
    }

    @Test func whiteoutsBecomeOverlayfsMarks() async throws {
        var tar = TarBuilder()
        tar.file("gone/.wh.file", "")
        tar.directory("opaque")
        tar.file("opaque/.wh..wh..opq", "")
        tar.file("opaque/new", "new")
        tar.file(".wh.replaced", "")
        tar.directory("replaced", mode: 0o700)
        tar.directory("kept")
        tar.file("kept/file", "kept")
        tar.file(".wh.kept", "")
        tar.file(".wh..wh.plnk/12.34", "")
        tar.directory("forged", xattrs: ["trusted.overlay.redirect": "/etc", "trusted.overlay.opaque": "y"])
        try await withConverted(tar.finished()) { image throws in
            let mark = try image.status("gone/file")
            #expect(mark.st_mode & S_IFMT == S_IFCHR)
            #expect(mark.st_rdev == 0)
            #expect(image.xattr("opaque", "trusted.overlay.opaque") == Data("y".utf8))
            #expect(try image.names("opaque") == ["new"])
            #expect(image.xattr("replaced", "trusted.overlay.opaque") == Data("y".utf8))
            #expect(try image.status("replaced").st_mode == S_IFDIR | 0o700)
            #expect(image.xattr("kept", "trusted.overlay.opaque") == Data("y".utf8))
            #expect(try image.contents("kept/file") == Data("kept".utf8))
            #expect(image.xattr("forged", "trusted.overlay.redirect") == nil)
            #expect(image.xattr("forged", "trusted.overlay.opaque") == nil)
        }
    }

    @Test func overlayfsHidesWhatUpperLayersRemoved() async throws {
        var low = TarBuilder()
        low.file("gone", "gone")
        low.file("dir/old", "old")
        low.file("cleared/old", "old")
        low.file("stays", "stays")
        var high = TarBuilder()
        high.file(".wh.gone", "")
        high.file("dir/.wh.old", "")
        high.file("dir/new", "new")
        high.directory("cleared", mode: 0o700)
        high.file("cleared/.wh..wh..opq", "")
        let highTar = high.finished()
        try await withConverted(low.finished()) { lower throws in
            let directory = FileManager.default.temporaryDirectory.appendingPathComponent("overlay-\(UUID().uuidString)")
            try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
            defer { try? FileManager.default.removeItem(at: directory) }
            let image = directory.appendingPathComponent("high").path
            _ = try convert(highTar, to: image, in: directory)
            try MountedImage.with(image) { upper throws in
                try MountedImage.withOverlay([upper, lower]) { merged throws in
                    #expect(try merged.names("") == ["cleared", "dir", "stays"])
                    #expect(try merged.names("dir") == ["new"])
                    #expect(try merged.names("cleared").isEmpty)
                    #expect(try merged.status("cleared").st_mode & 0o777 == 0o700)
                }
            }
        }
    }

    @Test func laterEntriesReplaceEarlierOnes() async throws {
        var tar = TarBuilder()
        tar.file("file", "first")
        tar.hardLink("linked", to: "file")
        tar.file("file", "second")
        tar.directory("directory")
        tar.file("directory/inside", "inside")
        tar.directory("directory", mode: 0o700)
        tar.directory("was-directory")
        tar.file("was-directory/x", "x")
        tar.file("was-directory", "now a file")
        tar.symlink("lib", to: "usr/lib")
        tar.file("lib/through", "through")
        tar.symlink("absolute", to: "/../../usr")
        tar.file("absolute/clamped", "clamped")
        try await withConverted(tar.finished()) { image throws in
            #expect(try image.contents("file") == Data("second".utf8))
            #expect(try image.contents("linked") == Data("first".utf8))
            #expect(try image.status("linked").st_nlink == 1)
            #expect(try image.status("directory").st_mode == S_IFDIR | 0o700)
            #expect(try image.contents("directory/inside") == Data("inside".utf8))
            #expect(try image.contents("was-directory") == Data("now a file".utf8))
            #expect(try image.contents("usr/lib/through") == Data("through".utf8))
            #expect(try image.contents("usr/clamped") == Data("clamped".utf8))
        }
    }

    @Test func largeDirectoriesAreFoundByName() async throws {
        var tar = TarBuilder()
        let names = (0..<5000).map { "entry-\($0)-\(String(repeating: "x", count: $0 % 90))" } + ["-a", "!b", "..c", ".d", "~"]
        for name in names { tar.file("many/\(name)", name) }
        try await withConverted(tar.finished()) { image throws in
            #expect(try image.names("many") == names.sorted())
            for name in names { #expect(try image.contents("many/\(name)") == Data(name.utf8)) }
            #expect(try image.names("many").count == names.count)
        }
    }

    @Test func attributesTooLargeForABlockAreKept() async throws {
        let value = String(repeating: "v", count: 6000)
        var tar = TarBuilder()
        tar.file("file", Data("tail".utf8), xattrs: ["user.a": value, "user.b": String(repeating: "w", count: 3000)])
        tar.file("border", Data(repeating: 1, count: 2000), xattrs: ["user.a": String(repeating: "v", count: 2500)])
        tar.directory("directory", xattrs: ["user.a": value])
        tar.file("directory/child", "child")
        tar.symlink("link", to: String(repeating: "t", count: 4095))
        try await withConverted(tar.finished()) { image throws in
            #expect(image.xattr("file", "user.a") == Data(value.utf8))
            #expect(image.xattr("file", "user.b")?.count == 3000)
            #expect(try image.contents("file") == Data("tail".utf8))
            #expect(try image.contents("border") == Data(repeating: 1, count: 2000))
            #expect(image.xattr("directory", "user.a") == Data(value.utf8))
            #expect(try image.contents("directory/child") == Data("child".utf8))
            #expect(try image.link("link").utf8.count == 4095)
        }
    }

    @Test func emptyLayersMount() async throws {
        try await withConverted(TarBuilder().finished()) { image throws in
            #expect(try image.names("").isEmpty)
            #expect(try image.status("").st_mode == S_IFDIR | 0o755)
        }
        try await withConverted(Data()) { image throws in
            #expect(try image.names("").isEmpty)
        }
    }

    @Test(arguments: OCIImageBuilder.Compression.allCases)
    func diffIDIsThatOfThePlainTar(_ compression: OCIImageBuilder.Compression) async throws {
        var tar = TarBuilder()
        tar.file("file", noise(300_000))
        // Padding after the end mark, as GNU tar writes it, belongs to the digest.
        let plain = tar.finished() + Data(count: 9216)
        try await withTestDirectory { directory in
            let image = directory.appendingPathComponent("image").path
            let result = try convert(OCIImageBuilder.compress(plain, compression), to: image, in: directory)
            #expect(result.diffID.description == OCIImageBuilder.digest(plain))
            #expect(result.entries == 1)
            let status = try FileManager.default.attributesOfItem(atPath: image)
            #expect(status[.size] as? Int == Int(result.sizeBytes))
            #expect(result.sizeBytes % 4096 == 0)
            #expect(status[.posixPermissions] as? Int == 0o400)
        }
    }

    @Test func zerosTakeNoSpaceOnDisk() async throws {
        var tar = TarBuilder()
        tar.file("zeros", Data(count: 32 << 20))
        let compressed = try OCIImageBuilder.compress(tar.finished(), .gzip)
        try await withTestDirectory { directory in
            let image = directory.appendingPathComponent("image").path
            let result = try convert(compressed, to: image, in: directory)
            #expect(result.sizeBytes > 32 << 20)
            var status = stat()
            #expect(stat(image, &status) == 0)
            #expect(status.st_blocks * 512 < 2 << 20)
        }
    }
}

extension OCIImageBuilder.Compression: CaseIterable {
    public static var allCases: [Self] { [.none, .gzip, .zstd] }
}
