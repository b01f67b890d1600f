import Errors
import Foundation
import Glibc
import Logging
import StreamControl
import StreamServer
import Support
import Testing

@testable import swiftlet_streamd

/// Where clients are served, as it is configured again and again.
@Suite(.timeLimit(.minutes(2))) struct SessionPortTests {
    /// Nothing is behind the sessions: what counts is who can connect.
    private struct NoBackend: StreamBackend {
        func exec(_ request: ExecRequest, size: TerminalSize?) async throws -> any ProcessSession { throw none }
        func attach(_ request: AttachRequest, size: TerminalSize?) async throws -> any ProcessSession { throw none }
        func connect(_ request: PortForwardRequest, port: UInt16) async throws -> any PortConnection { throw none }
        private var none: SwiftletError { SwiftletError(.notFound, "nothing is here") }
    }

    private let log = RecordedLog()
    private let forward = { StreamRequest.portForward(try PortForwardRequest(sandboxID: "s", address: "s", ports: [])) }

    private func withPort(_ body: (SessionPort) async throws -> Void) async throws {
        let port = SessionPort(backend: NoBackend(), logger: log.logger)
        let running = Task { await port.run() }
        do {
            try await body(port)
        } catch {
            running.cancel()
            throw error
        }
        running.cancel()
        await running.value
    }

    private func configuration(
        _ address: String, _ change: (inout StreamConfigureRequest) -> Void = { _ in }
    ) throws -> SessionConfiguration {
        var request = StreamConfigureRequest.with { $0.address = address }
        change(&request)
        return try SessionConfiguration(request)
    }

    private static func port(of url: String) throws -> UInt16 { try #require(url.split(separator: ":").last.flatMap { UInt16($0) }) }

    /// Whether somebody listens there.
    private static func isServed(_ port: UInt16) -> Bool {
        guard let descriptor = try? TCPClient.connect(port) else { return false }
        close(descriptor)
        return true
    }

    @Test func nobodyIsServedBeforeItIsConfiguredOrWhereNoAddressIs() async throws {
        try await withPort { port in
            #expect(throws: SwiftletError.self) { try port.server() }
            #expect((port.url, port.address, port.unserved) == ("", "", ""))
            await port.configure(try configuration(""))
            let error = #expect(throws: SwiftletError.self) { try port.server() }
            #expect(error?.code == .unimplemented)
        }
    }

    @Test func whatHasNotChangedStaysAndAnotherAddressTakesItsPlace() async throws {
        try await withPort { port in
            await port.configure(try configuration("127.0.0.1:0"))
            let url = port.url
            let former = try Self.port(of: url)
            let token = try port.server().url(for: try forward())
            #expect(token.hasPrefix(url + "/portforward/"))
            await port.configure(try configuration("127.0.0.1:0"))
            #expect(port.url == url)
            let session = try TCPClient.connect(former)
            var isOpen = true
            defer { if isOpen { close(session) } }
            let path = token.dropFirst(url.count)
            let begun = try await TCPClient.onThread {
                Self.answer(session, to: Array("POST \(path) HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n".utf8))
            }
            #expect(String(decoding: begun, as: UTF8.self).hasPrefix("HTTP/1.1 101"))
            await port.configure(try configuration("[::1]:0"))
            #expect(port.url.hasPrefix("http://[::1]:"))
            #expect(!Self.isServed(former))
            // A session that was there is served still: a ping is answered.
            let ping: [UInt8] = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]
            #expect(try await TCPClient.onThread { Self.answer(session, to: ping) } == ping)
            await port.configure(try configuration(""))
            #expect(port.url.isEmpty)
            // What nobody is connected to any more is let go.
            try await eventually("the second port's server is let go") { port.formerServers == 1 }
            close(session)
            isOpen = false
            try await eventually("the first port's server is let go") { port.formerServers == 0 }
        }
    }

    private static func answer(_ descriptor: Int32, to request: [UInt8]) -> [UInt8] {
        TCPClient.sendAll(descriptor, request)
        var bytes = [UInt8](repeating: 0, count: 1024)
        let count = read(descriptor, &bytes, bytes.count)
        return Array(bytes.prefix(max(count, 0)))
    }

    @Test func anAddressThatIsTakenIsServedOnceItIsFree() async throws {
        let holder = try await StreamServer.start(ServerConfiguration(), NoBackend(), logger: log.logger)
        try await withPort { port in
            await port.configure(try configuration("127.0.0.1:\(holder.port)"))
            let error = #expect(throws: SwiftletError.self) { try port.server() }
            #expect(error?.code == .unavailable)
            #expect(port.unserved.contains("port \(holder.port)") && port.url.isEmpty)
            try await Task.sleep(for: .milliseconds(1500))
            #expect(log.lines.filter { $0.contains("clients are not served") }.count == 1, "\(log.lines)")
            await holder.stop()
            try await eventually("it is served") { port.url == "http://127.0.0.1:\(holder.port)" }
            #expect(port.unserved.isEmpty)
        }
    }

    @Test func smallerLimitsCountAtOnce() async throws {
        try await withPort { port in
            await port.configure(try configuration("127.0.0.1:0"))
            let url = port.url
            for _ in 0..<5 { _ = try port.server().url(for: try forward()) }
            await port.configure(
                try configuration("127.0.0.1:0") { ($0.containerSessions, $0.podSessions, $0.nodeSessions) = (1, 3, 9) })
            // Limits are no reason to listen anew.
            #expect(port.url == url)
            let error = #expect(throws: SwiftletError.self) { try port.server().url(for: try forward()) }
            #expect(error?.code == .resourceExhausted)
        }
    }

    @Test func urlsOfAFormerAddressHaveNoPlacesAmongTheSessions() async throws {
        try await withPort { port in
            func limited(_ address: String) throws -> SessionConfiguration { try configuration(address) { $0.podSessions = 3 } }
            await port.configure(try limited("127.0.0.1:0"))
            for _ in 0..<3 { _ = try port.server().url(for: try forward()) }
            #expect(throws: SwiftletError.self) { try port.server().url(for: try forward()) }
            await port.configure(try limited("[::1]:0"))
            for _ in 0..<3 { _ = try port.server().url(for: try forward()) }
        }
    }

    @Test func severalAttemptsAtOnceServeOnce() async throws {
        let free = try await StreamServer.start(ServerConfiguration(), NoBackend(), logger: log.logger)
        let address = "127.0.0.1:\(free.port)"
        await free.stop()
        try await withPort { port in
            let wanted = try configuration(address)
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<8 { group.addTask { await port.configure(wanted) } }
            }
            try await eventually("it is served") { port.url == "http://\(address)" }
            try await Task.sleep(for: .milliseconds(100))
            #expect(port.unserved.isEmpty)
        }
    }

    @Test func aCertificateThatCannotBeUsedIsSaid() async throws {
        try await withPort { port in
            await port.configure(
                try configuration("127.0.0.1:0") { ($0.certificate, $0.key) = ("/nonexistent/c.pem", "/nonexistent/k.pem") })
            #expect(port.unserved.contains("/nonexistent/c.pem"))
            let error = #expect(throws: SwiftletError.self) { try port.server() }
            #expect(error?.code == .unavailable)
        }
        for request in [
            StreamConfigureRequest.with { $0.address = "10.0.0.1:80" }, .with { ($0.address, $0.key) = ("127.0.0.1:80", "/k") },
            .with { $0.address = "nowhere" },
        ] {
            let error = #expect(throws: SwiftletError.self) { try SessionConfiguration(request) }
            #expect(error?.code == .invalidArgument)
        }
    }
}
