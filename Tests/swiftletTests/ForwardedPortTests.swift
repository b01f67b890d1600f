import ArgumentParser
import Testing

@testable import swiftlet

@Suite struct ForwardedPortTests {
    @Test(
        arguments: [
            ("80", 80, 80), ("8080:80", 8080, 80), (":80", 0, 80), ("0:80", 0, 80), ("65535:65535", 65535, 65535),
        ] as [(String, UInt16, UInt16)]) func portsAreReadAsKubectlReadsThem(_ text: String, _ local: UInt16, _ remote: UInt16) throws
    {
        let port = try ForwardedPort(parsing: text)
        #expect(port.local == local && port.remote == remote)
    }

    @Test(arguments: [
        ("0", "0: the pod's port has to be a number from 1 to 65535, not 0"),
        ("8080:0", "8080:0: the pod's port has to be a number from 1 to 65535, not 0"),
        ("65536", "65536: the pod's port has to be a number from 1 to 65535, not 65536"),
        ("65536:80", "65536:80: the local port has to be a number from 0 to 65535, not 65536"),
        ("http", "http: the pod's port has to be a number from 1 to 65535, not http"),
        ("8080:http", "8080:http: the pod's port has to be a number from 1 to 65535, not http"),
        ("8080:", "8080:: the pod's port has to be a number from 1 to 65535, not nothing"),
        ("+80", "+80: the pod's port has to be a number from 1 to 65535, not +80"),
        ("1:2:3", "1:2:3 is no port: write [LOCAL:]REMOTE, as 8080:80"),
    ]) func whatIsNoPortIsNamed(_ text: String, _ message: String) {
        let error = #expect(throws: ValidationError.self) { try ForwardedPort(parsing: text) }
        #expect(error?.message == message)
    }

    @Test func addressesAreIPAddressesOrLocalhost() throws {
        #expect(try ListenAddress.parse("localhost") == [ListenAddress(alternatives: ["127.0.0.1", "::1"])])
        #expect(
            try ListenAddress.parse("0.0.0.0,fd00::1") == [
                ListenAddress(alternatives: ["0.0.0.0"]), ListenAddress(alternatives: ["fd00::1"]),
            ])
        for text in ["", "example.com", "127.0.0.1,", "127.0.0.1:80"] {
            #expect(throws: ValidationError.self) { try ListenAddress.parse(text) }
        }
    }

    /// Said before anything else is done.
    @Test(arguments: [["port-forward", "p", "0"], ["port-forward", "p"], ["port-forward", "--address", "here", "p", "80"]])
    func aWrongCommandLineIsAUsageError(_ arguments: [String]) async {
        #expect(await Swiftlet.status(of: arguments + ["--endpoint", "unix:///nowhere"]) == 2)
    }

    @Test func aPortThatIsTakenAtOneAlternativeIsListenedOnAtTheOther() async throws {
        let taken = try await LocalPorts([ForwardedPort(parsing: ":80")], at: ListenAddress.parse("127.0.0.1")) { _ in }
        let port = try #require(taken.listeners.first).listener.port
        var passedOver: [String] = []
        let both = try await LocalPorts([ForwardedPort(parsing: "\(port):80")], at: ListenAddress.parse("localhost")) {
            passedOver.append("\($0)")
        }
        #expect(both.listeners.map(\.listener.name) == ["[::1]:\(port)"])
        #expect(passedOver == ["127.0.0.1:\(port): Address already in use (errno 98)"])
        await both.close()
        let error = await #expect(throws: (any Error).self) {
            _ = try await LocalPorts([ForwardedPort(parsing: "\(port):80")], at: ListenAddress.parse("127.0.0.1")) { _ in }
        }
        #expect(
            "\(try #require(error))" == "cannot listen on local port \(port) for 80: 127.0.0.1:\(port): Address already in use (errno 98)")
        await taken.close()
    }
}
