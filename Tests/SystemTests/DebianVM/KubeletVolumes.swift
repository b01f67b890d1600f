import Errors
import Foundation
import Glibc
import Linux
import YAML

@testable import CloudInit

/// What a kubelet has of a pod's volumes on the node, below a directory of the test's own.
final class KubeletVolumes: Sendable {
    let directory: String
    /// Files of ConfigMaps and Secrets, by the object's name.
    private let objects: [String: [String: String]]

    init(_ node: Node, objects: [String: [String: String]] = [:]) throws {
        directory = "\(node.environment.scratch)/kubelet-\(UInt32.random(in: 0 ... .max))"
        self.objects = objects
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }

    func remove() async throws {
        for file in try FileManager.default.contentsOfDirectory(atPath: directory) where file.hasSuffix(".disk") {
            let found = try await Spawn("/sbin/losetup", ["--noheadings", "--output", "NAME", "-j", "\(directory)/\(file)"]).check()
            for device in found.outputText.split(whereSeparator: \.isWhitespace) {
                try await Spawn("/sbin/losetup", ["--detach", String(device)]).check()
            }
        }
        try FileManager.default.removeItem(atPath: directory)
    }

    func file(_ name: String, _ text: String) throws -> String {
        try text.write(toFile: "\(directory)/\(name)", atomically: false, encoding: .utf8)
        return "\(directory)/\(name)"
    }

    /// A volume's directory, made when it is not there.
    func directory(of volume: YAMLValue) throws -> String {
        let name = volume["name"]?.text ?? ""
        if let object = volume["configMap"]?["name"]?.text { return try written(object, "\(volumes)/kubernetes.io~configmap/\(name)") }
        if let object = volume["secret"]?["secretName"]?.text { return try written(object, "\(volumes)/kubernetes.io~secret/\(name)") }
        if volume["persistentVolumeClaim"] != nil {
            let path = "\(volumes)/kubernetes.io~csi/\(name)/mount"
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            return path
        }
        guard let path = volume["hostPath"]?["path"]?.text ?? (volume["emptyDir"] == nil ? nil : "/empty-\(name)") else {
            throw SwiftletError(.unimplemented, "volume \(name) of a kind that the test does not know")
        }
        try FileManager.default.createDirectory(atPath: hostPath(path), withIntermediateDirectories: true)
        return hostPath(path)
    }

    /// Where the node's own file system is, for the test.
    func hostPath(_ path: String) -> String { "\(directory)/node\(path)" }

    private var volumes: String { "\(directory)/pods/0/volumes" }

    private func written(_ object: String, _ path: String) throws -> String {
        guard let files = objects[object] else { throw SwiftletError(.notFound, "the test has no object \(object)") }
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try Self.write(files, to: path)
        for name in files.keys {
            try FileManager.default.createSymbolicLink(atPath: "\(path)/\(name)", withDestinationPath: "..data/\(name)")
        }
        return path
    }

    /// As a kubelet's atomic writer: a new directory, and a link to it that is replaced in one step.
    func update(configMap volume: String, _ files: [String: String]) throws {
        try Self.write(files, to: "\(volumes)/kubernetes.io~configmap/\(volume)")
    }

    private static func write(_ files: [String: String], to path: String) throws {
        let version = "..\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: "\(path)/\(version)", withIntermediateDirectories: true)
        for (name, text) in files { try text.write(toFile: "\(path)/\(version)/\(name)", atomically: false, encoding: .utf8) }
        try FileManager.default.createSymbolicLink(atPath: "\(path)/..data_tmp", withDestinationPath: version)
        guard rename("\(path)/..data_tmp", "\(path)/..data") == 0 else { throw SwiftletError.system("rename") }
    }

    /// A loop device of 64 MiB for a claim in block mode.
    func device(of volume: YAMLValue) async throws -> String {
        guard let claim = volume["persistentVolumeClaim"]?["claimName"]?.text else {
            throw SwiftletError(.unimplemented, "a device of something else than a claim")
        }
        let path = "\(directory)/\(claim).disk"
        guard FileManager.default.createFile(atPath: path, contents: nil), truncate(path, 1 << 30) == 0 else {
            throw SwiftletError.system("create \(path)")
        }
        let result = try await Spawn("/sbin/losetup", ["--find", "--show", path]).check()
        return result.outputText.trimmingCharacters(in: .whitespacesAndNewlines)
    }
}
