import Foundation
import Support
import Testing

@testable import Images

@Suite struct SampleImageTests {
    private static let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../../images/samples/build").standardizedFileURL.path

    @Test func sampleLoadsAndHoldsBusybox() async throws {
        try await withStore { store, directory in
            let process = ChildProcess()
            process.executableURL = URL(fileURLWithPath: Self.script)
            process.arguments = [directory.appendingPathComponent("out").path]
            process.standardOutput = FileHandle.nullDevice
            try process.run()
            process.waitUntilExit()
            try #require(process.terminationStatus == 0)
            let images = try await store.load(path: directory.appendingPathComponent("out/samples.tar").path, reference: nil)
            #expect(images.map(\.repoTags) == [["docker.io/library/samples:latest"]])
            let rootfs = try await store.rootfs(of: #require(images.first).id)
            #expect(rootfs.config.cmd == ["/bin/sh"])
            try MountedImage.with(rootfs.layers[0].path) { mounted throws in
                #expect(try mounted.contents("bin/busybox") == Data(contentsOf: URL(fileURLWithPath: "/bin/busybox")))
                #expect(try mounted.link("bin/sh") == "busybox")
                #expect(try mounted.status("tmp").st_mode & 0o7777 == 0o1777)
                #expect(try mounted.status("home/user").st_uid == 1000)
                #expect(try mounted.status("bin/busybox").st_uid == 0)
            }
        }
    }
}
