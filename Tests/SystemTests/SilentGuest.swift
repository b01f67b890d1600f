import Errors
import Foundation
import Linux

/// An initramfs that boots and then says nothing: busybox as init, asleep.
enum SilentGuest {
    static func initramfs(in directory: String) async throws -> String {
        let root = directory + "/silent"
        try? FileManager.default.removeItem(atPath: root)
        try FileManager.default.createDirectory(atPath: root + "/bin", withIntermediateDirectories: true)
        try FileManager.default.copyItem(atPath: "/bin/busybox", toPath: root + "/bin/busybox")
        try "#!/bin/busybox sh\nexec /bin/busybox sleep 100000\n".write(toFile: root + "/init", atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: root + "/init")
        let archive = directory + "/silent.img"
        let result = try await Spawn(
            "/usr/bin/cpio", ["--quiet", "-o", "-H", "newc", "-F", archive], directory: root,
            input: Array("init\nbin\nbin/busybox\n".utf8)
        ).run()
        guard result.succeeded else { throw SwiftletError(.internal, "cpio: \(result.errorText)") }
        return archive
    }
}
