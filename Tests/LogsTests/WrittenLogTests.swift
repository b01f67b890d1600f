import Errors
import Foundation
import Runtime
import Support
import Testing

@testable import Logs

/// Rotation of a log that another process writes.
@Suite struct WrittenLogTests {
    private final class Directory {
        let path = NSTemporaryDirectory() + "swiftlet-written-\(UUID().uuidString.prefix(8))"

        init() throws { try FileManager.default.createDirectory(atPath: path + "/c", withIntermediateDirectories: true) }

        deinit { try? FileManager.default.removeItem(atPath: path) }

        func write(_ name: String, _ text: String) throws {
            try text.write(toFile: "\(path)/c/\(name)", atomically: false, encoding: .utf8)
        }

        var names: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path + "/c").sorted()) ?? [] }
    }

    private let rotation = LogRotation(maxSize: 10, maxFiles: 3)

    @Test func aFullFileIsRenamedAndTheOldestAreRemoved() throws {
        let directory = try Directory()
        let log = WrittenLog(directory: directory.path, path: "c/0.log")
        #expect(try log.state(rotation) == .isRenamed)
        for round in 0..<4 {
            try directory.write("0.log", "few")
            #expect(try log.state(rotation) == .hasRoom)
            try directory.write("0.log", "0123456789 \(round)")
            #expect(try log.state(rotation) == .isFull)
            #expect(try log.rename())
            #expect(try log.state(rotation) == .isRenamed)
            try log.removeOldest(rotation)
        }
        #expect(directory.names.count == 2)
        let kept = try directory.names.map { try String(contentsOfFile: "\(directory.path)/c/\($0)", encoding: .utf8) }
        #expect(kept == ["0123456789 2", "0123456789 3"])
        // The kubelet has renamed it meanwhile; no reserved name stays.
        #expect(try log.rename() == false)
        #expect(directory.names.count == 2)
    }

    @Test func noLinkIsFollowed() throws {
        let directory = try Directory()
        try directory.write("other", "0123456789")
        try FileManager.default.createSymbolicLink(atPath: directory.path + "/c/0.log", withDestinationPath: directory.path + "/c/other")
        #expect(try WrittenLog(directory: directory.path, path: "c/0.log").state(rotation) == .isRenamed)
        #expect(throws: SwiftletError.self) { try WrittenLog(directory: directory.path + "/none", path: "0.log").state(rotation) }
    }
}
