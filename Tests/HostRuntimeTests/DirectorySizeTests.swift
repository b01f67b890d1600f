import Foundation
import Glibc
import Testing

@testable import HostRuntime

struct DirectorySizeTests {
    /// Names may be any bytes, and links lead elsewhere.
    @Test func everythingBelowIsCountedAndNothingElse() throws {
        let directory = NSTemporaryDirectory() + "size-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let odd: [CChar] = Array((directory + "/odd").utf8CString.dropLast()) + [-1, 0]
        #expect(mkdir(odd, 0o755) == 0)
        let file = open(odd.dropLast() + Array("/file".utf8CString), O_CREAT | O_WRONLY | O_CLOEXEC, 0o644)
        #expect(write(file, [UInt8](repeating: 1, count: 1 << 20), 1 << 20) == 1 << 20)
        close(file)
        #expect(symlink("/usr", directory + "/link") == 0)
        let usage = try #require(DirectorySize.measure(directory))
        #expect(usage.inodes == 3 && usage.usedBytes >= 1 << 20 && usage.usedBytes < 2 << 20, "\(usage)")
        #expect(DirectorySize.measure(directory + "/absent") == nil)
    }
}
