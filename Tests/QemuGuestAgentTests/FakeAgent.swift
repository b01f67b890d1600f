import CLinux
import Concurrency
import Errors
import Foundation
import Glibc
import Synchronization

/// A port whose guest answers as the test says: one answer for each line that comes, for one client after the other.
final class FakeAgent: Sendable {
    let path: String
    private let listener: Int32
    private let directory: String
    private let lines = Mutex<[String]>([])

    /// - Parameter answer: gets a line; nil closes the connection.
    init(_ answer: @escaping @Sendable (String) -> [UInt8]?) throws {
        directory = FileManager.default.temporaryDirectory.appending(path: "qga-\(UUID())").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        path = directory + "/port"
        listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard clinux_unix_bind(listener, path, 0o600) == 0, listen(listener, 4) == 0 else { throw SwiftletError.system("listen") }
        let listener = listener
        try OwnThread.start { [weak self] in
            // By nobody else: accept must not be asked with a number that is another's by then.
            defer { close(listener) }
            while true {
                let client = accept(listener, nil, nil)
                guard client >= 0 else { return }
                self?.serve(client, answer)
                close(client)
            }
        }
    }

    var asked: [String] { lines.withLock { $0 } }

    private func serve(_ client: Int32, _ answer: (String) -> [UInt8]?) {
        var line: [UInt8] = []
        var byte: UInt8 = 0
        while recv(client, &byte, 1, 0) == 1 {
            guard byte == UInt8(ascii: "\n") else {
                line.append(byte)
                continue
            }
            let text = String(decoding: line.filter { $0 != 0xFF }, as: UTF8.self)
            line = []
            lines.withLock { $0.append(text) }
            guard let bytes = answer(text) else { return }
            var sent = 0
            while sent < bytes.count {
                let count = bytes.withUnsafeBytes {
                    send(client, $0.baseAddress.map { $0 + sent }, bytes.count - sent, Int32(MSG_NOSIGNAL))
                }
                guard count > 0 else { return }
                sent += count
            }
        }
    }

    /// The answer to guest-sync-delimited; nil for other commands.
    static func synchronized(_ line: String) -> [UInt8]? {
        guard line.contains("guest-sync-delimited"), let id = line.firstMatch(of: /"id":([0-9]+)/) else { return nil }
        return [0xFF] + Array("{\"return\": \(id.1)}\n".utf8)
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        try? FileManager.default.removeItem(atPath: directory)
    }
}
