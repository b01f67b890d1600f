import Errors
import Foundation
import Testing

@testable import Machines

struct SharedFilesystemTests {
    private let device = FilesystemSpec(tag: "swiftlet", socket: "/run/swiftlet/pods/0123456789abc/virtiofs")

    @Test func deviceIsAsReviewed() throws {
        try device.validate()
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Golden/filesystem.xml")
        let xml = SharedFilesystem.tag(device).rendered()
        if ProcessInfo.processInfo.environment["SWIFTLET_WRITE_GOLDEN"] == "1" { try Data(xml.utf8).write(to: file) }
        #expect(try xml == String(contentsOf: file, encoding: .utf8))
    }

    @Test func aDeviceThatIsThereIsFoundByItsTag() {
        // As libvirt writes it of a running domain.
        let live = """
            <devices>
                <filesystem type='mount'>
                  <driver type='virtiofs' queue='1024'/>
                  <source socket='/run/a'/>
                  <target dir='swiftlet'/>
                  <alias name='fs0'/>
                </filesystem>
            </devices>
            """
        #expect(SharedFilesystem.isAttached("swiftlet", in: live))
        #expect(!SharedFilesystem.isAttached("swift", in: live))
        #expect(!SharedFilesystem.isAttached("swiftlet", in: "<devices/>"))
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
