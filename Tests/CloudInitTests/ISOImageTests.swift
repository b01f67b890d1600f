import CArchive
import Errors
import Foundation
import Testing

@testable import CloudInit

@Suite(.timeLimit(.minutes(1))) final class ISOImageTests {
    private let directory = NSTemporaryDirectory() + "iso-\(UUID().uuidString)"

    init() throws { try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    /// Every file of an image, as libarchive reads it.
    private static func contents(of path: String) throws -> [String: [UInt8]] {
        let archive = try #require(archive_read_new())
        defer { archive_read_free(archive) }
        archive_read_support_format_iso9660(archive)
        try #require(archive_read_open_filename(archive, path, 10240) == ARCHIVE_OK)
        var found: [String: [UInt8]] = [:]
        var entry: OpaquePointer?
        while archive_read_next_header(archive, &entry) == ARCHIVE_OK, let entry {
            guard archive_entry_size(entry) > 0, archive_entry_filetype(entry) == Foundation.S_IFREG else { continue }
            var bytes = [UInt8](repeating: 0, count: Int(archive_entry_size(entry)))
            let count = archive_read_data(archive, &bytes, bytes.count)
            try #require(count == bytes.count)
            found[String(cString: archive_entry_pathname(entry))] = bytes
        }
        return found
    }

    @Test(arguments: SeedFormat.allCases) func theImageHoldsEveryByte(_ format: SeedFormat) async throws {
        var request = try SeedSamples.full()
        request.data.userData = .written((0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) })
        let seed = try Seed(request, format: format)
        let path = directory + "/seed.iso"
        try seed.write(to: path, mode: 0o640)
        let expected = Dictionary(uniqueKeysWithValues: seed.files.map { ($0.path, $0.contents) })
        let found = try Self.contents(of: path)
        #expect(found == expected)
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        #expect(attributes[.posixPermissions] as? Int == 0o640)
        // What cloud-init's ds-identify and Linux go by.
        let label = try await CloudInitProgram.run("/usr/sbin/blkid", ["-p", "-o", "export", path])
        #expect(label.output.contains("LABEL=\(format == .noCloud ? "cidata" : "config-2")\n") && label.output.contains("TYPE=iso9660\n"))
    }

    @Test func equalSeedsAreEqualImagesWheneverTheyAreMade() async throws {
        let seed = try Seed(try SeedSamples.full(), format: .configDrive)
        let first = try ISOImage.image(of: seed)
        try await Task.sleep(for: .milliseconds(1100))
        let second = try ISOImage.image(of: seed)
        let differing = zip(first, second).enumerated().filter { $0.element.0 != $0.element.1 }.map(\.offset)
        #expect(first.count == second.count && differing.isEmpty, "\(differing.prefix(40))")
    }

    @Test func aLinkInTheSeedsPlaceIsNotFollowed() throws {
        let seed = try Seed(try SeedSamples.request(), format: .noCloud)
        try FileManager.default.createSymbolicLink(atPath: directory + "/link", withDestinationPath: directory + "/target")
        #expect(throws: SwiftletError.self) { try seed.write(to: directory + "/link") }
        #expect(!FileManager.default.fileExists(atPath: directory + "/target"))
    }
}
