import AgentProtocol
import Concurrency
import Errors
import Glibc
import Linux
import Machines
import Synchronization
import TTRPC

/// What answers for a machine's agent: ttrpc behind the vsock proxy's line, in this process.
final class InProcessGuest: Sendable {
    private let listener: Int32
    private let path: String

    typealias Answer = @Sendable (_ method: String) -> Result<[UInt8], SwiftletError>

    /// As a guest without containers.
    static let plain: Answer = { method in
        guard method == "GetInfo" else { return .success([]) }
        return .success((try? AgentGetInfoResponse.with { $0.version = "test" }.serializedBytes()) ?? [])
    }

    /// - Parameters:
    ///   - path: where the host expects the proxy. What listens there is replaced.
    ///   - hangsUp: each connection ends after the first answer.
    ///   - answer: to every call.
    ///   - output: what a connection for output carries, once its token has come. It ends with that.
    init(
        at path: String, hangsUp: Bool = false, answer: @escaping Answer = plain, output: (@Sendable (Int32) -> Void)? = nil
    ) throws {
        self.path = path
        unlink(path)
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard bound == 0, listen(descriptor, 16) == 0 else { throw SwiftletError.system("listen on \(path)") }
        listener = descriptor
        try OwnThread.start {
            while true {
                let connection = accept(descriptor, nil, nil)
                guard connection >= 0 else { break }
                try? OwnThread.start {
                    if let port = Self.greet(connection) {
                        if port == AgentContract.streamPort, let output {
                            Self.carry(connection, output)
                        } else {
                            Self.serve(connection, hangsUp, answer)
                        }
                    }
                    close(connection)
                }
            }
            close(descriptor)
        }
    }

    /// Ends the guest as a machine's end does.
    func end() {
        shutdown(listener, Int32(SHUT_RDWR))
        unlink(path)
    }

    private static func carry(_ connection: Int32, _ output: @Sendable (Int32) -> Void) {
        var token = [UInt8](repeating: 0, count: AgentContract.tokenLength)
        guard recv(connection, &token, token.count, Int32(MSG_WAITALL)) == token.count else { return }
        let accepted = [AgentContract.streamAccepted]
        if send(connection, accepted, 1, Int32(MSG_NOSIGNAL)) == 1 { output(connection) }
    }

    /// Answers "CONNECT <port>" as swiftlet-vsockd does.
    ///
    /// - Returns: the port.
    private static func greet(_ connection: Int32) -> UInt32? {
        var line: [UInt8] = []
        var byte: UInt8 = 0
        while read(connection, &byte, 1) == 1, byte != UInt8(ascii: "\n"), line.count < 64 { line.append(byte) }
        let port = String(decoding: line.dropFirst(8), as: UTF8.self)
        let answer = Array("OK \(port)\n".utf8)
        guard byte == UInt8(ascii: "\n"), send(connection, answer, answer.count, Int32(MSG_NOSIGNAL)) == answer.count else { return nil }
        return UInt32(port)
    }

    private static func serve(_ connection: Int32, _ hangsUp: Bool, _ answer: Answer) {
        var decoder = TTRPCFrameDecoder()
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(connection, &buffer, buffer.count)
            guard count > 0 else { return }
            decoder.append(buffer[..<count])
            while let frame = try? decoder.next() {
                let request = try? TTRPCRequest(encoded: frame.payload)
                let answer = TTRPCResponse(answer(request?.method ?? ""))
                guard let bytes = try? TTRPCFrame(stream: frame.stream, kind: .response, payload: answer.encoded).encoded(),
                    send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
                else { return }
                if hangsUp { return }
            }
        }
    }
}

/// The guests of all machines of a node. They outlive the daemon.
final class InProcessGuests: Sendable {
    private let guests = Mutex<[MachineID: InProcessGuest]>([:])
    /// What guests say to StartSandbox; nil: they obey.
    private let refusal = Mutex<SwiftletError?>(nil)

    func refuseSandboxes(_ error: SwiftletError?) { refusal.withLock { $0 = error } }

    func start(_ spec: MachineSpec) throws {
        guard case .vhostUser(let device, _) = spec.vsock else { throw SwiftletError(.invalidArgument, "no vsock proxy") }
        // The handler dials the device's other socket, which stands beside the one that QEMU gets.
        let directory = device.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
        let guest = try InProcessGuest(at: directory + "/vsock") { [self] method in
            if method == "StartSandbox", let error = refusal.withLock({ $0 }) { return .failure(error) }
            return InProcessGuest.plain(method)
        }
        guests.withLock { $0[spec.id] = guest }
    }

    func end(_ id: MachineID) {
        guests.withLock { $0.removeValue(forKey: id) }?.end()
    }
}
