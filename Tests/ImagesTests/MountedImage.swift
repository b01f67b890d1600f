import Foundation
import Support

@testable import Images

/// A disk image as the kernel sees it: mounted read-only through a loop device, and passed by fsck.erofs before.
struct MountedImage {
    struct Failure: Error {
        var what: String
    }

    let root: String

    /// Mounts the image while `body` runs.
    static func with<Value>(_ image: String, _ body: (MountedImage) throws -> Value) throws -> Value {
        try command("fsck.erofs", [image])
        return try mounted(["-t", "erofs", "-o", "ro,loop", image], body)
    }

    /// Stacks mounted layers, uppermost first, while `body` runs.
    static func withOverlay<Value>(_ layers: [MountedImage], _ body: (MountedImage) throws -> Value) throws -> Value {
        try mounted(["-t", "overlay", "-o", "ro,lowerdir=\(layers.map(\.root).joined(separator: ":"))", "overlay"], body)
    }

    private static func mounted<Value>(_ arguments: [String], _ body: (MountedImage) throws -> Value) throws -> Value {
        let point = FileManager.default.temporaryDirectory.appendingPathComponent("mount-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: point, withIntermediateDirectories: false)
        defer { rmdir(point) }
        try command("mount", arguments + [point])
        defer { try? command("umount", [point]) }
        return try body(MountedImage(root: point))
    }

    /// `stat` without following links.
    func status(_ path: String) throws -> stat {
        var status = stat()
        guard lstat("\(root)/\(path)", &status) == 0 else { throw Failure(what: "\(path): \(String(cString: strerror(errno)))") }
        return status
    }

    func exists(_ path: String) -> Bool { (try? status(path)) != nil }

    func contents(_ path: String) throws -> Data {
        try Data(contentsOf: URL(fileURLWithPath: "\(root)/\(path)"))
    }

    func link(_ path: String) throws -> String {
        var target = [CChar](repeating: 0, count: 8192)
        let count = readlink("\(root)/\(path)", &target, target.count)
        guard count >= 0 else { throw Failure(what: "\(path): \(String(cString: strerror(errno)))") }
        return String(decoding: target.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    func xattr(_ path: String, _ name: String) -> Data? {
        // The Glibc module leaves sys/xattr.h out.
        typealias Function = @convention(c) (UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafeMutableRawPointer?, Int) -> Int
        guard let symbol = dlsym(nil, "lgetxattr") else { return nil }
        let lgetxattr = unsafeBitCast(symbol, to: Function.self)
        var value = [UInt8](repeating: 0, count: 65536)
        let count = lgetxattr("\(root)/\(path)", name, &value, value.count)
        return count < 0 ? nil : Data(value.prefix(count))
    }

    func names(_ path: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "\(root)/\(path)").sorted()
    }

    private static func command(_ name: String, _ arguments: [String]) throws {
        let process = ChildProcess()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [name] + arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(decoding: try output.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw Failure(what: "\(name) \(arguments): \(text)") }
    }
}

/// Converts a tar and shows the result as the kernel mounts it.
func withConverted<Value>(_ tar: Data, limits: LayerLimits = LayerLimits(), _ body: (MountedImage) throws -> Value) async throws -> Value {
    try await withTestDirectory { directory in
        let image = directory.appendingPathComponent("layer.erofs").path
        _ = try convert(tar, to: image, in: directory, limits: limits)
        return try MountedImage.with(image, body)
    }
}

func convert(_ tar: Data, to image: String, in directory: URL, limits: LayerLimits = LayerLimits()) throws -> LayerConverter.Result {
    let blob = try directory.file("blob-\(UUID().uuidString)", tar)
    return try LayerConverter(limits: limits).convert(
        BlobSource(path: blob, offset: 0, length: UInt64(tar.count)), compression: nil, to: image)
}
