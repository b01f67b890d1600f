import Errors
import Foundation
import Runtime

/// What the annotations take from the pod's mounts, read.
public struct SeedData: Sendable, Equatable {
    /// Files that the seed writes into the guest once.
    public struct File: Sendable, Equatable {
        public var path: String
        public var contents: [UInt8]
        /// Permission bits.
        public var mode: UInt32
    }

    public internal(set) var files: [File] = []
    var userData = UserData.none
    var sshKeys: [String] = []

    /// Nothing from mounts.
    init() {}
}

extension VMAnnotations {
    /// Whether the mount holds the root disk, and is not shared with the guest.
    public func isRootVolume(_ mount: ContainerMount) -> Bool {
        rootVolume != nil && GuestPath(mount.containerPath)?.text == rootVolume
    }

    /// Whether the mount holds what the machine keeps beside its root disk, and is not shared with the guest.
    public func isStateVolume(_ mount: ContainerMount) -> Bool {
        stateVolume != nil && GuestPath(mount.containerPath)?.text == stateVolume
    }

    /// Whether the mount's files are written into the guest by the seed, and the mount is not shared with it.
    public func isSeeded(_ mount: ContainerMount) -> Bool {
        guard let path = GuestPath(mount.containerPath)?.text, !mount.hostPath.isEmpty else { return false }
        switch seedVolumes {
        case .none: return false
        case .all: return mount.hostPath.split(separator: "/").contains { Self.filePlugins.contains(String($0)) }
        case .paths(let paths): return paths.contains(path)
        }
    }

    /// What `seed-volumes: all` means: the kubelet's volumes of files.
    private static let filePlugins: Set = [
        "kubernetes.io~configmap", "kubernetes.io~secret", "kubernetes.io~downward-api", "kubernetes.io~projected",
    ]

    /// Reads what the annotations take from the pod's mounts. Blocks.
    ///
    /// - Parameter mounts: of the container, with their paths on the node.
    /// - Throws: `.invalidArgument` naming the annotation, and what to mount.
    public func seedData(from mounts: [ContainerMount]) throws -> SeedData {
        var data = SeedData()
        data.userData = try named("user-data-from", "VirtletCloudInitUserDataSource", userData.source) { try userData.read(from: mounts) }
        data.sshKeys = try named("ssh-keys-from", "VirtletSSHKeySource", sshKeySource) { try keys(from: mounts) }
        data.files = try named("files-from", "VirtletFilesFromDataSource", fileSource) { try files(from: mounts) }
        if case .paths(let paths) = seedVolumes {
            let found = Set(mounts.compactMap { GuestPath($0.containerPath)?.text })
            if let missing = paths.subtracting(found).min() {
                throw SwiftletError(
                    .invalidArgument, "\(AnnotationReader.prefix)seed-volumes: \(printable(missing)) is none of the container's mounts")
            }
        }
        var bytes = data.files.reduce(0) { $0 + $1.contents.count }
        for mount in mounts where isSeeded(mount) {
            let files = try named("seed-volumes") { try Self.files(of: mount) }
            bytes += files.reduce(0) { $0 + $1.contents.count }
            // Before the next mount is read: there may be any number of them.
            guard bytes <= Seed.mostBytes else {
                throw SwiftletError(
                    .invalidArgument,
                    "\(AnnotationReader.prefix)seed-volumes: the files have more than the \(Seed.mostBytes) bytes of a seed")
            }
            data.files += files
        }
        return data
    }

    /// Names the annotation that the source is from in what is thrown.
    private func named<Value>(
        _ own: String, _ virtlet: String = "", _ source: MountSource? = nil, _ body: () throws -> Value
    ) throws -> Value {
        do { return try body() } catch {
            if case .volume = source { throw SwiftletError.wrap(error, virtlet) }
            throw SwiftletError.wrap(error, AnnotationReader.prefix + own)
        }
    }

    private static func files(of mount: ContainerMount) throws -> [SeedData.File] {
        let files = try MountFiles.read(mount)
        guard let base = GuestPath(mount.containerPath)?.text else { return [] }
        // Virtlet wrote a Secret's files 0600 and all others 0644; the kubelet's modes say as much, and what the pod's author said.
        return files.compactMap { file in
            guard let path = file.isMount ? GuestPath(base) : GuestPath("\(base)/\(file.path)") else { return nil }
            return SeedData.File(path: path.text, contents: file.contents, mode: file.mode & 0o777)
        }
    }

    private func keys(from mounts: [ContainerMount]) throws -> [String] {
        // With inline keys that overwrite, Virtlet's code drops those of the source.
        if userData.overwrites, !sshKeys.isEmpty { return sshKeys }
        guard let sshKeySource else { return sshKeys }
        let (mount, key) = try sshKeySource.find(in: mounts)
        let files = try MountFiles.read(mount)
        let name = key ?? "authorized_keys"
        guard let file = files.first(where: { $0.path == name }) ?? (key == nil && files.count == 1 ? files.first : nil) else {
            throw SwiftletError(.invalidArgument, "there is no file \(quoted(name)) in mount \(printable(mount.containerPath))")
        }
        guard let text = String(validating: file.contents, as: UTF8.self) else {
            throw SwiftletError(.invalidArgument, "\(quoted(name)) is not UTF-8")
        }
        let keys = SSHKeys.lines(text)
        guard keys.allSatisfy(SSHKeys.isKey) else {
            throw SwiftletError(.invalidArgument, "\(quoted(name)) is not one SSH public key a line")
        }
        return keys + sshKeys
    }

    /// Virtlet's files: the key X holds the contents, X_path where they go, X_encoding plain or base64, which is the default.
    private func files(from mounts: [ContainerMount]) throws -> [SeedData.File] {
        guard let fileSource else { return [] }
        let (mount, key) = try fileSource.find(in: mounts)
        guard key == nil else { throw SwiftletError(.invalidArgument, "a file is named where its mount is to be") }
        let files = try MountFiles.read(mount)
        let byName = Dictionary(files.map { ($0.path, $0) }, uniquingKeysWith: { $1 })
        let text = { (name: String) in
            byName[name].map { String(decoding: $0.contents, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines) }
        }
        return try files.compactMap { file in
            let name = file.path
            if name.hasSuffix("_path"), byName[String(name.dropLast(5))] != nil { return nil }
            if name.hasSuffix("_encoding"), byName[String(name.dropLast(9))] != nil { return nil }
            guard let target = text(name + "_path"), let path = GuestPath(target) else {
                throw SwiftletError(.invalidArgument, "\(quoted(name)) has no key \(quoted(name + "_path")) with an absolute path")
            }
            switch text(name + "_encoding") ?? "base64" {
            case "plain": return SeedData.File(path: path.text, contents: file.contents, mode: 0o644)
            case "base64":
                guard let contents = Self.decodeBase64(file.contents) else {
                    throw SwiftletError(.invalidArgument, "\(quoted(name)) is not base64; say plain in \(quoted(name + "_encoding"))")
                }
                return SeedData.File(path: path.text, contents: contents, mode: 0o644)
            default: throw SwiftletError(.invalidArgument, "\(quoted(name + "_encoding")) is neither plain nor base64")
            }
        }
    }

    /// Base64 with lines as tools break it.
    static func decodeBase64(_ bytes: [UInt8]) -> [UInt8]? {
        let text = bytes.filter { $0 != 0x0A && $0 != 0x0D && $0 != 0x20 && $0 != 0x09 }
        return Data(base64Encoded: Data(text)).map(Array.init)
    }
}
