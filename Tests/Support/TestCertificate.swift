import Foundation

public enum TestCertificate {
    struct Failure: Error { var status: Int32 }

    /// Makes a self-signed certificate and its key, by OpenSSL. Blocks.
    ///
    /// - Parameter alternative: its subject's other name, as "DNS:localhost".
    public static func make(_ subject: String, _ alternative: String? = nil, certificate: String, key: String) throws {
        let process = ChildProcess()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
        process.arguments =
            [
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=\(subject)",
                "-keyout", key, "-out", certificate,
            ] + (alternative.map { ["-addext", "subjectAltName=\($0)"] } ?? [])
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw Failure(status: process.terminationStatus) }
    }
}
