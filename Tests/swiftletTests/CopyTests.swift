import Errors
import Foundation
import Glibc
import Linux
import StreamFakes
import Support
import Testing

@testable import swiftlet

/// `swiftlet cp` with a streaming server whose containers are processes of this machine, with this machine's tar.
@Suite(.timeLimit(.minutes(3))) struct CopyTests {
    private func write(_ text: String, _ path: String) throws { try Data(text.utf8).write(to: URL(fileURLWithPath: path)) }
    private func text(_ path: String) -> String? { try? String(contentsOfFile: path, encoding: .utf8) }
    private func makeDirectory(_ path: String) throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    @Test func filesAndDirectoriesAreCopiedBothWays() async throws {
        try await SessionTests().withContainer { stage in
            try await withTemporaryDirectory { root in
                let (here, there) = (root + "/here", root + "/there")
                for directory in [here + "/tree/empty", here + "/tree/ä b", there] { try makeDirectory(directory) }
                let bytes = randomBytes(3_000_001, seed: 4)
                try bytes.write(to: URL(fileURLWithPath: here + "/tree/large"))
                let long = String(repeating: "long", count: 40)
                try write("deep", here + "/tree/ä b/" + long)
                symlink("large", here + "/tree/link")
                chmod(here + "/tree/large", 0o750)
                func copy(_ source: String, _ destination: String) async throws {
                    let result = try await swiftlet("cp", source, destination, endpoint: stage.endpoint)
                    #expect(result.status == 0 && result.errorText.isEmpty && result.outputText.isEmpty, "\(result.errorText)")
                }
                func expectTree(_ path: String) throws {
                    let isSame = try Data(contentsOf: URL(fileURLWithPath: path + "/large")) == bytes
                    #expect(isSame && text(path + "/ä b/" + long) == "deep")
                    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: path + "/link") == "large")
                    #expect(FileManager.default.fileExists(atPath: path + "/empty"))
                    var status = stat()
                    #expect(stat(path + "/large", &status) == 0 && status.st_mode & 0o777 == 0o750)
                }
                // Into a directory, as a new name, contents only; then the same from the container.
                try await copy(here + "/tree", "web:" + there)
                try expectTree(there + "/tree")
                try await copy(here + "/tree/", "web:" + there + "/new")
                try expectTree(there + "/new")
                try makeDirectory(there + "/contents")
                try await copy(here + "/tree/.", "web:" + there + "/contents")
                try expectTree(there + "/contents")
                try makeDirectory(root + "/back")
                try await copy("web:" + there + "/tree", root + "/back")
                try expectTree(root + "/back/tree")
                try await copy("web:" + there + "/tree", root + "/named")
                try expectTree(root + "/named")
                try makeDirectory(root + "/inside")
                try await copy("web:" + there + "/tree/.", root + "/inside")
                try expectTree(root + "/inside")
                // A file that is there is replaced.
                try write("old", root + "/file")
                try await copy("web:" + there + "/tree/ä b/" + long, root + "/file")
                #expect(text(root + "/file") == "deep")
                try await copy(root + "/file", "web:" + there + "/tree/file")
                #expect(text(there + "/tree/file") == "deep")
            }
        }
    }

    @Test func anArchivePassesAsAStream() async throws {
        try await SessionTests().withContainer { stage in
            try await withTemporaryDirectory { root in
                try makeDirectory(root + "/from")
                try makeDirectory(root + "/to")
                try write("hello", root + "/from/file")
                let archive = try await swiftlet("cp", "web:\(root)/from/file", "-", endpoint: stage.endpoint)
                #expect(archive.status == 0 && archive.output.count > 1024, "\(archive.errorText)")
                let back = try await swiftlet(["cp", "-", "web:\(root)/to"], input: archive.output, endpoint: stage.endpoint)
                #expect(back.status == 0 && text(root + "/to/file") == "hello", "\(back.errorText)")
            }
        }
    }

    @Test func whoReadsTheBeginningOfAnArchiveAloneEndsTheCopyQuietly() async throws {
        try await SessionTests().withContainer { stage in
            try await withTemporaryDirectory { root in
                // Larger than what pipes and connections hold.
                try randomBytes(8 << 20, seed: 5).write(to: URL(fileURLWithPath: root + "/large"))
                let program = try program()
                let result = try await Spawn(
                    "/bin/sh",
                    [
                        "-c",
                        "export SWIFTLET_ENDPOINT=\(stage.endpoint); (\(program) cp web:\(root)/large -; echo code $? >&2) | head -c 9 | wc -c",
                    ]
                ).run()
                #expect(result.outputText.contains("9") && result.errorText == "code 141\n", "\(result.errorText)")
            }
        }
    }

    @Test func whatCannotBeCopiedIsSaid() async throws {
        try await SessionTests().withContainer { stage in
            try await withTemporaryDirectory { root in
                func failure(_ source: String, _ destination: String) async throws -> String {
                    let result = try await swiftlet("cp", source, destination, endpoint: stage.endpoint)
                    #expect(result.status == 1)
                    return result.errorText
                }
                #expect(try await failure("web:\(root)/none", root).contains("tar in the container has failed with 2: tar: "))
                #expect(try await failure(root + "/none", "web:\(root)").contains("No such file"))
                #expect(try await failure("web:\(root)", root + "/none/").contains("is no directory"))
                try write("x", root + "/file")
                #expect(try await failure(root + "/file", "web:\(root)/none/").contains("is no directory in the container"))
                // Larger than what a pipe takes, so that the tar is gone when it is sent.
                try randomBytes(1 << 20, seed: 6).write(to: URL(fileURLWithPath: root + "/large"))
                #expect(try await failure(root + "/large", "web:/proc/new").contains("tar in the container has failed with "))
                mkfifo(root + "/fifo", 0o600)
                let fifo = try await swiftlet("cp", root + "/fifo", "web:\(root)/copy", endpoint: stage.endpoint)
                #expect(fifo.status == 0 && fifo.errorText.contains("left out") && fifo.errorText.contains("/fifo"), "\(fifo.errorText)")
                for arguments in [["cp", root, root], ["cp", "web:/a", "web:/b"], ["cp", "web:", root], ["cp", "web:/a"]] {
                    #expect(try await swiftlet(arguments, endpoint: stage.endpoint).status == 2)
                }
            }
        }
    }

    @Test func placesAreTold() {
        #expect(CopyPlace(argument: "web:/etc/hosts") == .container("web", path: "/etc/hosts"))
        #expect(CopyPlace(argument: "./a:b") == .local("./a:b"))
        #expect(CopyPlace(argument: "/a:b") == .local("/a:b"))
        #expect(CopyPlace(argument: "-") == .stream)
        #expect(CopyPlace(argument: "pod/web:/etc/hosts") == .container("pod/web", path: "/etc/hosts"))
        for text in ["../a:b", "a/b/c:d", ".:x", ".hidden/a:b"] { #expect(CopyPlace(argument: text) == .local(text), "\(text)") }
        for text in ["", ":", "web:", ":/x", "pod/web:"] { #expect(CopyPlace(argument: text) == nil, "\(text)") }
        func split(_ path: String) -> [String] { [SplitPath(path).directory, SplitPath(path).name] }
        #expect(split("/etc/hosts") == ["/etc", "hosts"] && split("/etc") == ["/", "etc"] && split("etc") == [".", "etc"])
        #expect(
            split("/") == ["/", "."] && split(".") == [".", "."] && split("a/b/.") == ["a/b", "."] && split("a/..") == ["a/..", "."])
        #expect(split("a/b/") == ["a", "b"] && SplitPath("a/b/").endsWithSlash)
    }

    // MARK: Archives of a hostile container

    /// Unpacks as `base` is asked for, into `root/into`.
    private func unpack(
        _ archive: Data, _ root: String, base: String = "base", prepare: (String) throws -> Void = { _ in }
    ) async throws -> Result<[String], any Error> {
        let directory = root + "/into"
        try makeDirectory(directory)
        try prepare(directory)
        let file = root + "/archive"
        try archive.write(to: URL(fileURLWithPath: file))
        let extraction = TarExtraction(base: base, directory: directory, name: base == "." ? nil : base)
        do {
            return .success(
                try await TCPClient.onThread {
                    let descriptor = open(file, O_RDONLY)
                    defer { close(descriptor) }
                    return try extraction.run(from: descriptor)
                })
        } catch {
            return .failure(error)
        }
    }

    private static func archive(_ build: (inout TarBuilder) -> Void) -> Data {
        var tar = TarBuilder()
        build(&tar)
        return tar.finished()
    }

    /// Archives that want something at `root/outside`, whose text is `kept`.
    static let escapes: [(String, Data)] = [
        ("absolute", archive { $0.file("/outside", "lost") }),
        ("dots", archive { $0.file("base/../../outside", "lost") }),
        ("dots first", archive { $0.file("../outside", "lost") }),
        ("dots before an accent", archive { $0.file("base/../../\u{301}outside", "lost") }),
        ("absolute with an accent", archive { $0.file("/\u{301}outside", "lost") }),
        ("another name", archive { $0.file("other", "lost") }),
        (
            "through a link",
            archive {
                $0.directory("base")
                $0.symlink("base/link", to: "../..")
                $0.file("base/link/outside", "lost")
            }
        ),
        (
            "through a link of the base's name",
            archive {
                $0.symlink("base", to: "..")
                $0.file("base/outside", "lost")
            }
        ),
        (
            "hard link to dots",
            archive {
                $0.hardLink("base/link", to: "base/../../outside")
                $0.file("base/link", "lost")
            }
        ),
        ("absolute hard link", archive { $0.hardLink("base/link", to: "/etc/passwd") }),
        ("hard link to another name", archive { $0.hardLink("base/link", to: "other") }),
        (
            "hard link through a link",
            archive {
                $0.symlink("base/up", to: "../..")
                $0.hardLink("base/link", to: "base/up/outside")
            }
        ),
    ]

    @Test(arguments: escapes.indices) func nothingIsWrittenOutsideOfTheDestination(_ index: Int) async throws {
        let (what, archive) = Self.escapes[index]
        try await withTemporaryDirectory { root in
            try write("kept", root + "/outside")
            let result = try await unpack(archive, root)
            #expect(throws: SwiftletError.self, "\(what)") { try result.get() }
            #expect(text(root + "/outside") == "kept", "\(what)")
            #expect(!FileManager.default.fileExists(atPath: root + "/into/other"))
        }
    }

    @Test func nothingButAFileIsReplacedByACopy() async throws {
        let error = #expect(throws: SwiftletError.self) { try ContainerCopy.extraction(of: "base", to: "/dev/null") }
        #expect(error?.code == .invalidArgument)
        try await withTemporaryDirectory { root in
            try write("kept", root + "/file")
            try FileManager.default.createSymbolicLink(atPath: root + "/link", withDestinationPath: root + "/file")
            let extraction = try ContainerCopy.extraction(of: "base", to: root + "/link")
            #expect(extraction.name == "file")
        }
    }

    /// All is root's in the container.
    @Test func setUserIDBitsAreNotSent() async throws {
        try await withTemporaryDirectory { root in
            try write("program", root + "/program")
            #expect(chmod(root + "/program", 0o6755) == 0)
            try await TCPClient.onThread {
                let descriptor = open(root + "/archive", O_WRONLY | O_CREAT, 0o600)
                defer { close(descriptor) }
                _ = try TarCreation(source: root + "/program", name: "program").run(to: descriptor)
            }
            let header = try Data(contentsOf: URL(fileURLWithPath: root + "/archive")).prefix(107).suffix(7)
            #expect(String(decoding: header, as: UTF8.self).hasSuffix("0755"))
        }
    }

    @Test func aLinkThatIsThereIsReplacedAndNotFollowed() async throws {
        try await withTemporaryDirectory { root in
            try write("kept", root + "/outside")
            let archive = Self.archive {
                $0.symlink("base/link", to: "../../outside")
                $0.file("base/link", "mine")
                $0.file("base/other", "mine")
            }
            let result = try await unpack(archive, root) { directory in
                try makeDirectory(directory + "/base")
                symlink("../../outside", directory + "/base/other")
            }
            #expect(throws: Never.self) { try result.get() }
            #expect(
                text(root + "/outside") == "kept" && text(root + "/into/base/link") == "mine" && text(root + "/into/base/other") == "mine")
        }
    }

    @Test func whatIsNoFileAndRightsAreNotTakenOver() async throws {
        try await withTemporaryDirectory { root in
            let archive = Self.archive {
                $0.directory("base", mode: 0o2777)
                $0.characterDevice("base/device", major: 1, minor: 3)
                $0.fifo("base/fifo")
                $0.file("base/program", Data("x".utf8), mode: 0o4755, uid: 12345, gid: 12345)
                $0.hardLink("base/again", to: "base/program")
            }
            let result = try await unpack(archive, root)
            #expect(try result.get() == ["base/device", "base/fifo"])
            var status = stat()
            #expect(stat(root + "/into/base/program", &status) == 0 && status.st_mode & 0o7777 == 0o755 && status.st_uid == getuid())
            #expect(status.st_nlink == 2 && status.st_mtim.tv_sec == 1_700_000_000)
            #expect(stat(root + "/into/base", &status) == 0 && status.st_mode & 0o7000 == 0)
            #expect(!FileManager.default.fileExists(atPath: root + "/into/base/device"))
        }
    }

    @Test func anArchiveThatIsNoneOrLiesOfItsSizeIsAnError() async throws {
        var huge = TarBuilder()
        huge.entry("base/huge", type: "0", content: Data("x".utf8), announcedSize: 0o77777777777)
        for archive in [Data("no archive".utf8), Data((0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }), huge.bytes] {
            try await withTemporaryDirectory { root in
                let result = try await unpack(archive, root)
                #expect(throws: SwiftletError.self) { try result.get() }
                var status = stat()
                if stat(root + "/into/base/huge", &status) == 0 { #expect(status.st_blocks < 1024) }
            }
        }
        let endless = Self.archive { $0.file("base", "x") } + Data(count: 2 << 20)
        try await withTemporaryDirectory { root in
            let result = try await unpack(endless, root)
            let error = #expect(throws: SwiftletError.self) { try result.get() }
            #expect(error?.message == "the archive goes on behind its end")
        }
    }
}
