import Foundation
import Testing

@testable import GuestAgent

@Suite struct ScsiDisksTests {
    @Test func theSerialIsReadFromItsPageWithoutPadding() {
        let page: [UInt8] = [0, 0x80, 0, 10] + Array("  layer-1 ".utf8) + [0, 0, 0]
        #expect(ScsiDisks.unitSerial(page) == "layer-1")
    }

    @Test(arguments: [[], [0, 0x80], [0, 0x83, 0, 1, 0x61]] as [[UInt8]]) func otherPagesHaveNone(page: [UInt8]) {
        #expect(ScsiDisks.unitSerial(page) == nil)
    }

    @Test func aLyingLengthReadsNoFurtherThanThePage() {
        #expect(ScsiDisks.unitSerial([0, 0x80, 0xff, 0xff, 0x61]) == "a")
    }

    /// The kernel lists a disk before its node can be opened, also one that returns under the name that it had.
    @Test func aDiskThatReturnsUnderItsNameIsThereWhenItCanBeOpened() throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "scsi-\(UUID())")
        defer { try? FileManager.default.removeItem(at: directory) }
        let (block, nodes) = (directory.appending(path: "block"), directory.appending(path: "dev"))
        for created in [block.appending(path: "sda/device"), nodes] {
            try FileManager.default.createDirectory(at: created, withIntermediateDirectories: true)
        }
        try Data([0, 0x80, 0, 5] + Array("layer".utf8)).write(to: block.appending(path: "sda/device/vpd_pg80"))
        let disks = ScsiDisks(blockDevices: block.path, nodes: nodes.path)
        #expect(disks.present(["layer"]).isEmpty)
        let node = nodes.appending(path: "sda")
        try Data().write(to: node)
        #expect(disks.present(["layer"]) == ["layer"])
        #expect(try disks.path(serial: "layer") == node.path)
        try FileManager.default.removeItem(at: node)
        #expect(disks.present(["layer"]).isEmpty)
        try Data().write(to: node)
        #expect(disks.present(["layer", "other"]) == ["layer"])
    }
}
