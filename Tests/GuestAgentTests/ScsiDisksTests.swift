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
}
