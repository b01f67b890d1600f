import Testing

@testable import CloudInit

@Suite struct QuantityTests {
    @Test(
        arguments: [
            ("0", 0), ("1", 1), ("4Gi", 4 << 30), ("160Mi", 160 << 20), ("1.5Ki", 1536), ("10M", 10_000_000), ("1e3", 1000), ("0.1k", 100),
            ("2E", 2_000_000_000_000_000_000), (".5Mi", 512 << 10), ("0.0001Ki", 1),
        ] as [(String, UInt64)])
    func whatIsAQuantity(_ text: String, _ bytes: UInt64) {
        #expect(Quantity.bytes(text) == bytes)
    }

    @Test(arguments: ["", "Gi", "-1", "+1", "1 Gi", "1GiB", "0x10", "1e19", "99999999999999999999", "16Ei", "1.2.3", "１", "1m", "."])
    func whatIsNone(_ text: String) {
        #expect(Quantity.bytes(text) == nil)
    }
}
