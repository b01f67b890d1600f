import Errors
import Foundation
import Testing

@testable import Machines

struct SharedFilesystemsTests {
    private let device = FilesystemSpec(tag: "swiftlet", socket: "/run/swiftlet/pods/0123456789abc/virtiofs")

    @Test func deviceIsAsReviewed() throws {
        try device.validate()
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Golden/filesystem.xml")
        let xml = SharedFilesystems.tag(device).rendered()
        if ProcessInfo.processInfo.environment["SWIFTLET_WRITE_GOLDEN"] == "1" { try Data(xml.utf8).write(to: file) }
        #expect(try xml == String(contentsOf: file, encoding: .utf8))
    }

    @Test func tagsAndSocketsThatCannotBeAreRefused() {
        for tag in ["", "a b", "a'/>", "../a", String(repeating: "a", count: 37)] {
            #expect(throws: SwiftletError.self) { try FilesystemSpec(tag: tag, socket: "/a").validate() }
        }
        for socket in ["", "relative", "/a\nb", "/" + String(repeating: "a", count: 107)] {
            #expect(throws: SwiftletError.self) { try FilesystemSpec(tag: "a", socket: socket).validate() }
        }
    }
}
