import Testing

@testable import VsockDevice

@Suite struct GreetingTests {
    @Test(arguments: [
        ("CONNECT 1024", 1024 as UInt32?), ("CONNECT 4294967294", 4_294_967_294), ("CONNECT 4294967295", nil), ("CONNECT ", nil),
        ("CONNECT -1", nil), ("connect 1", nil), ("CONNECT 99999999999", nil), ("CONNECT 1 ", nil), ("", nil),
    ])
    func greetingNamesAPortOrIsRefused(line: String, port: UInt32?) {
        #expect(Array(line.utf8).withUnsafeBytes { VsockDevice.port(inGreeting: $0) } == port)
    }
}
