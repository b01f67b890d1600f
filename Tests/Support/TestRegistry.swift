import Foundation
import FoundationNetworking

/// Debian's docker-registry on a free loopback port, with its files in a directory of its own.
public final class TestRegistry: Sendable {
    /// `127.0.0.1:port`, for references.
    public let host: String
    private let directory: URL
    private let process: ChildProcess

    public struct Failure: Error {
        public var what: String
    }

    /// User and password of a registry started with `withPassword`.
    public static let credentials = (user: "tester", password: "secret")

    /// Returns when the registry listens.
    public static func start(withPassword: Bool = false) async throws -> TestRegistry {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("registry-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        var configuration = """
            version: 0.1
            log: {accesslog: {disabled: true}, level: info}
            storage: {filesystem: {rootdirectory: "\(directory.path)/data"}, delete: {enabled: true}}
            http: {addr: "127.0.0.1:0"}

            """
        if withPassword {
            // bcrypt of "secret".
            let line = "tester:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
            try line.write(to: directory.appendingPathComponent("htpasswd"), atomically: true, encoding: .utf8)
            configuration += "auth: {htpasswd: {realm: test, path: \"\(directory.path)/htpasswd\"}}\n"
        }
        let file = directory.appendingPathComponent("config.yml")
        try configuration.write(to: file, atomically: true, encoding: .utf8)

        let process = ChildProcess()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/docker-registry")
        process.arguments = ["serve", file.path]
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        let log = Pipe()
        process.standardError = log
        do {
            try process.run()
            let port = try await port(in: log.fileHandleForReading)
            return TestRegistry(host: "127.0.0.1:\(port)", directory: directory, process: process)
        } catch {
            if process.isRunning { kill(process.processIdentifier, SIGKILL) }
            try? FileManager.default.removeItem(at: directory)
            throw error
        }
    }

    private init(host: String, directory: URL, process: ChildProcess) {
        self.host = host
        self.directory = directory
        self.process = process
    }

    /// Ends the registry and deletes its files.
    public func stop() {
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        try? FileManager.default.removeItem(at: directory)
    }

    /// Pushes blobs and manifest under `repository:tag`.
    public func push(_ image: BuiltImage, _ repository: String, tag: String = "latest") async throws {
        for blob in image.blobs { try await push(blob, repository) }
        try await push(manifest: image.manifest, repository, reference: tag)
    }

    /// Pushes the images by digest and an index over them under `repository:tag`.
    public func push(index: BuiltImage.Blob, of images: [BuiltImage], _ repository: String, tag: String = "latest") async throws {
        for image in images { try await push(image, repository, tag: image.manifest.digest) }
        try await push(manifest: index, repository, reference: tag)
    }

    public func push(_ blob: BuiltImage.Blob, _ repository: String) async throws {
        let started = try await send("POST", "http://\(host)/v2/\(repository)/blobs/uploads/", expecting: 202)
        guard let location = started.value(forHTTPHeaderField: "location") else { throw Failure(what: "no upload location") }
        let url = location + (location.contains("?") ? "&" : "?") + "digest=\(blob.digest)"
        _ = try await send("PUT", url, blob.bytes, type: "application/octet-stream", expecting: 201)
    }

    public func push(manifest: BuiltImage.Blob, _ repository: String, reference: String) async throws {
        _ = try await send(
            "PUT", "http://\(host)/v2/\(repository)/manifests/\(reference)", manifest.bytes, type: manifest.mediaType, expecting: 201)
    }

    private func send(
        _ method: String, _ url: String, _ body: Data = Data(), type: String? = nil, expecting status: Int
    ) async throws -> HTTPURLResponse {
        guard let address = URL(string: url) else { throw Failure(what: "bad URL \(url)") }
        var request = URLRequest(url: address, timeoutInterval: 60)
        request.httpMethod = method
        if let type { request.setValue(type, forHTTPHeaderField: "content-type") }
        let login = Data("\(Self.credentials.user):\(Self.credentials.password)".utf8).base64EncodedString()
        request.setValue("Basic \(login)", forHTTPHeaderField: "authorization")
        let (answer, response) = try await URLSession.shared.upload(for: request, from: body)
        guard let response = response as? HTTPURLResponse, response.statusCode == status else {
            throw Failure(what: "\(method) \(url): \(response) \(String(decoding: answer, as: UTF8.self))")
        }
        return response
    }

    /// Waits for the line that says where the registry listens; keeps reading afterwards, so that it never blocks.
    private static func port(in log: FileHandle) async throws -> Int {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                var text = ""
                var isWaiting = true
                while true {
                    let data = log.availableData
                    if data.isEmpty { break }
                    guard isWaiting else { continue }
                    text += String(decoding: data, as: UTF8.self)
                    if let match = text.firstMatch(of: /listening on 127\.0\.0\.1:(\d+)/), let port = Int(match.1) {
                        isWaiting = false
                        continuation.resume(returning: port)
                    }
                }
                if isWaiting { continuation.resume(throwing: Failure(what: "docker-registry ended: \(text)")) }
            }
        }
    }
}
