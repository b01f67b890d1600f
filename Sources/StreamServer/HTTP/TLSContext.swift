import Errors
import Foundation
import NIOSSL
import Synchronization

/// The certificate that connections are served with, read again when its files have changed: whoever renews it restarts nothing.
final class TLSContext: Sendable {
    private struct Version: Equatable {
        let certificate: Date?
        let key: Date?
    }

    private let files: ServerConfiguration.TLSFiles
    private let current: Mutex<(context: NIOSSLContext, version: Version)>

    /// - Throws: where the files cannot be read or do not belong together.
    init(_ files: ServerConfiguration.TLSFiles) throws {
        self.files = files
        let version = Self.version(files)
        current = Mutex((try Self.load(files), version))
    }

    /// - Parameter failed: called with what the changed files are not usable for; the former certificate stays.
    func context(failed: (any Error) -> Void) -> NIOSSLContext {
        let version = Self.version(files)
        return current.withLock { current in
            guard version != current.version else { return current.context }
            do {
                current = (try Self.load(files), version)
            } catch {
                // Tried again when they change again.
                current.version = version
                failed(error)
            }
            return current.context
        }
    }

    private static func version(_ files: ServerConfiguration.TLSFiles) -> Version {
        func date(_ path: String) -> Date? { (try? FileManager.default.attributesOfItem(atPath: path))?[.modificationDate] as? Date }
        return Version(certificate: date(files.certificate), key: date(files.key))
    }

    private static func load(_ files: ServerConfiguration.TLSFiles) throws -> NIOSSLContext {
        do {
            let chain = try NIOSSLCertificate.fromPEMFile(files.certificate).map { NIOSSLCertificateSource.certificate($0) }
            let key = try NIOSSLPrivateKey(file: files.key, format: .pem)
            return try NIOSSLContext(configuration: .makeServerConfiguration(certificateChain: chain, privateKey: .privateKey(key)))
        } catch {
            throw SwiftletError(
                .failedPrecondition, "the certificate \(files.certificate) and the key \(files.key) cannot be used", cause: error)
        }
    }
}
