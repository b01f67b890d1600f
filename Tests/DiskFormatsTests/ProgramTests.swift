import Foundation
import Support
import Testing

@testable import DiskFormats

/// swiftlet-diskinfo as swiftletd runs it, and QEMU's own tool as the judge of what it takes.
@Suite(.timeLimit(.minutes(60))) struct ProgramTests {
    private let program: String

    init() throws {
        let bundle = Bundle.main.bundleURL
        let candidates = [bundle, bundle.deletingLastPathComponent()].map { $0.appending(path: "swiftlet-diskinfo").path }
        program = try #require(candidates.first { FileManager.default.isExecutableFile(atPath: $0) })
    }

    private func run(
        _ program: String, _ arguments: [String] = [], input: String = "/dev/null", errors: Bool = false
    ) throws -> (status: Int32, output: String) {
        let (process, pipe) = (ChildProcess(), Pipe())
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.standardInput = try #require(FileHandle(forReadingAtPath: input))
        process.standardOutput = pipe
        if errors { process.standardError = pipe } else { process.standardError = FileHandle.nullDevice }
        try process.run()
        var output = Data()
        // `readDataToEndOfFile` ends the tests at a signal.
        while true {
            do {
                guard let piece = try pipe.fileHandleForReading.read(upToCount: 4096), !piece.isEmpty else { break }
                output += piece
            } catch { continue }
        }
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: output, as: UTF8.self))
    }

    private func qemuImg(_ arguments: String...) throws {
        let result = try run("/usr/bin/qemu-img", arguments)
        #expect(result.status == 0, "\(result.output)")
    }

    private func withDirectory(_ body: (URL) throws -> Void) throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "diskinfo-\(UUID())")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        try body(directory)
    }

    /// Readable by everybody: the program is nobody when it opens its input for libqcow.
    private func put(_ bytes: [UInt8], _ path: String) throws {
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        try FileManager.default.setAttributes([.posixPermissions: 0o444], ofItemAtPath: path)
    }

    @Test(arguments: [
        "compat=1.1", "compat=0.10", "cluster_size=512", "cluster_size=2M", "lazy_refcounts=on", "refcount_bits=1",
        "compression_type=zstd", "extended_l2=on", "preallocation=metadata", "preallocation=falloc",
    ]) func imagesOfQEMUAreTaken(_ option: String) throws {
        try withDirectory { directory in
            let (raw, image) = (directory.appending(path: "raw").path, directory.appending(path: "image").path)
            var random = SplitMix(seed: 5)
            var bytes = [UInt8](repeating: 0, count: 3 << 20 + 512)
            for index in 1 << 20..<2 << 20 { bytes[index] = .random(in: 0...255, using: &random) }
            try put(bytes, raw)
            for compressed in option.hasPrefix("preallocation") ? [[]] : [[], ["-c"]] {
                let converted = try run(
                    "/usr/bin/qemu-img", ["convert", "-f", "raw", "-O", "qcow2", "-o", option] + compressed + [raw, image])
                #expect(converted.status == 0)
                let answer = try run(program, input: image)
                #expect(answer.output == "{\"format\":\"qcow2\",\"virtualSize\":3146240}\n", "\(option) \(compressed)")
            }
            #expect(try run(program, input: raw).output == "{\"format\":\"raw\",\"virtualSize\":3146240}\n")
        }
    }

    @Test func imagesWithSnapshotsAreTakenAndThoseOnOthersRefused() throws {
        try withDirectory { directory in
            let (image, overlay) = (directory.appending(path: "image").path, directory.appending(path: "overlay").path)
            try qemuImg("create", "-q", "-f", "qcow2", image, "64M")
            try qemuImg("snapshot", "-c", "first", image)
            try qemuImg("snapshot", "-c", "second", image)
            #expect(try run(program, input: image).output.contains("67108864"))
            try qemuImg("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image, overlay)
            #expect(try run(program, input: overlay).output.hasPrefix("{\"refusal\":\"it has a backing file, \\\"\(image)"))
            try qemuImg("create", "-q", "-f", "qcow2", "-o", "data_file=\(directory.path)/data,data_file_raw=on", overlay, "1M")
            #expect(try run(program, input: overlay).output.contains("external data file"))
        }
    }

    @Test(.enabled(if: geteuid() == 0)) func theProgramIsNobodyWhenItReads() throws {
        try withDirectory { directory in
            let path = directory.appending(path: "image").path
            try put(QcowBuilder().built(), path)
            #expect(try run(program, input: path).output.contains("virtualSize"))
            try FileManager.default.setAttributes([.posixPermissions: 0o400], ofItemAtPath: path)
            // Libqcow opens it again, by the one name that there is.
            #expect(try run(program, input: path).output.contains("libqcow cannot read it"))
        }
    }

    @Test func whatIsNoFileIsNoDisk() throws {
        #expect(try run(program, input: "/dev/zero").status != 0)
        #expect(try run(program, input: "/").status != 0)
    }

    /// Whatever is changed, the program answers, and what it takes QEMU takes as well: with the same size, and alone.
    /// `SWIFTLET_DISK_MUTATIONS` says how many.
    @Test func changedImagesAreAnswered() throws {
        let count = ProcessInfo.processInfo.environment["SWIFTLET_DISK_MUTATIONS"].flatMap(Int.init) ?? 150
        let seeds = [QcowBuilder(), QcowBuilder().with { $0.version = 2 }].map { $0.built() } + HostileDisk.all.prefix(40).map(\.bytes)
        var random = SplitMix(seed: 23)
        try withDirectory { directory in
            let path = directory.appending(path: "image").path
            for round in 0..<count {
                var bytes = seeds[Bool.random(using: &random) ? round % 2 : round % seeds.count]
                for _ in 0..<Int.random(in: 1...3, using: &random) where !bytes.isEmpty {
                    let at = min(Int.random(in: 0..<4, using: &random) << 16 + Int.random(in: 0..<112, using: &random), bytes.count - 1)
                    bytes[at] = Bool.random(using: &random) ? .random(in: 0...255, using: &random) : bytes[at] ^ 1
                }
                try? FileManager.default.removeItem(atPath: path)
                try put(bytes, path)
                let answer = try run(program, ["--format", "qcow2"], input: path)
                #expect(answer.status == 0 && answer.output.hasPrefix("{") && answer.output.hasSuffix("}\n"), "round \(round)")
                guard let found = answer.output.firstMatch(of: /"virtualSize":(\d+)/) else { continue }
                let judged = try run("/usr/bin/qemu-img", ["info", "-f", "qcow2", "--output=json", path], errors: true)
                #expect(judged.status == 0, "round \(round): \(judged.output)")
                #expect(judged.output.contains("\"virtual-size\": \(found.1)"), "round \(round)")
                #expect(!judged.output.contains("backing-filename") && !judged.output.contains("data-file\""), "round \(round)")
            }
        }
    }
}
