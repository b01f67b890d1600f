import Errors
import Foundation
import Glibc
import Runtime
import Testing

@testable import CloudInit

@Suite(.timeLimit(.minutes(1))) final class MountFilesTests {
    private let directory = NSTemporaryDirectory() + "mount-\(UUID().uuidString)"

    init() throws { try FileManager.default.createDirectory(atPath: directory + "/..1/sub", withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    private func read(_ path: String? = nil, _ limits: MountFiles.Limits = .init()) throws -> [MountFiles.File] {
        var mount = ContainerMount(containerPath: "/etc/conf")
        mount.hostPath = path ?? directory
        return try MountFiles.read(mount, limits: limits)
    }

    private func write(_ path: String, _ text: String) throws { try Data(text.utf8).write(to: URL(filePath: "\(directory)/\(path)")) }

    private func link(_ path: String, _ target: String) throws {
        try FileManager.default.createSymbolicLink(atPath: "\(directory)/\(path)", withDestinationPath: target)
    }

    @Test func aConfigMapIsReadThroughItsLinks() throws {
        try write("..1/a", "1")
        try write("..1/sub/b", "2")
        try link("..data", "..1")
        try link("a", "..data/a")
        try link("sub", "..data/sub")
        #expect(chmod(directory + "/..1/a", 0o400) == 0)
        #expect(
            try read() == [
                .init(path: "a", contents: Array("1".utf8), mode: 0o400), .init(path: "sub/b", contents: Array("2".utf8), mode: 0o644),
            ])
        #expect(try read(directory + "/..1/a") == [.init(path: "conf", contents: Array("1".utf8), mode: 0o400, isMount: true)])
    }

    @Test(arguments: ["/etc/passwd", "../../../../../../etc/passwd", "../outside"]) func noLinkLeadsOut(_ target: String) throws {
        try link("evil", target)
        let error = #expect(throws: SwiftletError.self) { try read() }
        #expect(error?.message == "mount /etc/conf: open \"evil\"")
        try FileManager.default.removeItem(atPath: directory + "/evil")
        try link("..data", "/etc")
        #expect(try read().isEmpty)
    }

    @Test func whatIsNoFileIsRefusedAndNotWaitedFor() throws {
        #expect(mkfifo(directory + "/pipe", 0o600) == 0)
        let error = #expect(throws: SwiftletError.self) { try read() }
        #expect(error?.message == "mount /etc/conf: \"pipe\" is no regular file")
    }

    /// A device that no driver has: whoever opens it gets an error of its own. Others do something when they are opened.
    @Test(.enabled(if: geteuid() == 0)) func aDeviceIsNotEvenOpened() throws {
        let path = directory + "/device"
        try #require(mknod(path, S_IFCHR | 0o600, 240 << 8 | 99) == 0)
        for root in [nil, path] {
            let error = #expect(throws: SwiftletError.self) { try read(root) }
            #expect(error?.message == "mount /etc/conf: \"\(root == nil ? "device" : "conf")\" is no regular file")
        }
    }

    @Test func whatIsTooMuchIsRefused() throws {
        try write("a", String(repeating: "x", count: 100))
        try write("b", String(repeating: "x", count: 100))
        #expect(try read(nil, .init(fileBytes: 100, bytes: 200, files: 2)).count == 2)
        for limits in [MountFiles.Limits(fileBytes: 99), .init(bytes: 199), .init(files: 1)] {
            #expect(throws: SwiftletError.self) { try read(nil, limits) }
        }
        try FileManager.default.createDirectory(atPath: directory + "/d", withIntermediateDirectories: true)
        try link("d/loop", "../d")
        #expect(throws: SwiftletError.self) { try read() }
    }
}
