import Errors
import Foundation
import Runtime
import YAML

/// What cloud-init takes user-data for, by how it begins (cloudinit/handlers, INCLUSION_TYPES_MAP).
enum UserDataKind: Sendable, Equatable {
    case cloudConfig
    case script
    /// MIME, includes, jinja, boothooks, gzip: cloud-init's own affair.
    case other

    /// A text that says nothing is taken for YAML, as in Virtlet's annotation.
    init(_ text: String) {
        let start = text.drop(while: \.isWhitespace)
        if start.hasPrefix("#cloud-config"), !start.hasPrefix("#cloud-config-archive"), !start.hasPrefix("#cloud-config-jsonp") {
            self = .cloudConfig
        } else if start.hasPrefix("#!") {
            self = .script
        } else if ["Content-Type:", "MIME-Version:", "#include", "#cloud-boothook", "#part-handler", "#cloud-config-", "## template:"]
            .contains(
                where: { start.lowercased().hasPrefix($0.lowercased()) })
        {
            self = .other
        } else {
            self = .cloudConfig
        }
    }
}

/// User-data put together.
enum UserData: Sendable, Equatable {
    case none
    /// As the author wrote it.
    case written([UInt8])
    /// Merged of a source's and the annotation's.
    case merged(YAMLValue)

    /// What in it is replaced by a script that links and mounts the volumes.
    static let mountScriptMark = "@virtlet-mount-script@"

    /// - Parameter mountScript: for scripts that ask for it.
    func bytes(mountScript: @autoclosure () -> String) -> [UInt8] {
        switch self {
        case .none: return Array("#cloud-config\n{}\n".utf8)
        case .merged(let value): return Array(("#cloud-config\n" + YAMLWriter.write(value)).utf8)
        case .written(let bytes):
            guard let text = String(validating: bytes, as: UTF8.self), text.contains(Self.mountScriptMark) else { return bytes }
            return Array(text.replacingOccurrences(of: Self.mountScriptMark, with: mountScript()).utf8)
        }
    }
}

extension UserDataAnnotations {
    /// By Virtlet's rules: a script replaces everything, a source's named key is one; else the source, with what is inline merged over it,
    /// or in its place.
    func read(from mounts: [ContainerMount]) throws -> UserData {
        if let script { return .written(Array(script.utf8)) }
        let inlineData = try inline.map { try Self.document($0) }
        if let inlineData, overwrites { return inlineData }
        guard let source else { return inlineData ?? .none }
        let sourceData = try data(of: source, in: mounts)
        guard let inlineData else { return sourceData }
        guard let lower = try Self.mapping(sourceData), let upper = try Self.mapping(inlineData) else {
            throw SwiftletError(
                .invalidArgument,
                "only cloud-config can be merged with cloud-config: leave one of the two out, or set \(AnnotationReader.prefix)user-data-overwrite"
            )
        }
        return .merged(lower.merged(with: upper))
    }

    private func data(of source: MountSource, in mounts: [ContainerMount]) throws -> UserData {
        let (mount, key) = try source.find(in: mounts)
        let files = try MountFiles.read(mount)
        guard let name = key ?? files.first(where: \.isMount)?.path else { return try Self.merge(files) }
        guard let file = files.first(where: { $0.path == name }) else {
            throw SwiftletError(.invalidArgument, "there is no file \(quoted(name)) in mount \(printable(mount.containerPath))")
        }
        var contents = file.contents
        if encoding == .base64 {
            guard let decoded = VMAnnotations.decodeBase64(contents) else {
                throw SwiftletError(.invalidArgument, "\(quoted(name)) is not base64")
            }
            contents = decoded
        }
        guard let text = String(validating: contents, as: UTF8.self) else { return .written(contents) }
        // What Virtlet's key names is taken as it is, whatever it begins with.
        if case .volume = source { return .written(contents) }
        return try Self.document(text)
    }

    /// Every file is a key of cloud-config, its contents the value.
    private static func merge(_ files: [MountFiles.File]) throws -> UserData {
        let members = try files.filter { !$0.path.contains("/") }.map { file in
            guard let text = String(validating: file.contents, as: UTF8.self) else {
                throw SwiftletError(.invalidArgument, "\(quoted(file.path)) is not UTF-8")
            }
            do {
                return YAMLValue.Member(key: YAMLScalar(text: file.path), value: try YAMLReader.read(text) ?? .string(""))
            } catch { throw SwiftletError.wrap(error, quoted(file.path)) }
        }
        return .merged(.mapping(members))
    }

    /// Cloud-config with its header; anything else as it is.
    private static func document(_ text: String) throws -> UserData {
        guard UserDataKind(text) == .cloudConfig else { return .written(Array(text.utf8)) }
        guard case .mapping = try YAMLReader.read(text) ?? .mapping([]) else {
            throw SwiftletError(.invalidArgument, "cloud-config is not a mapping of keys to values")
        }
        return .written(Array((text.hasPrefix("#cloud-config") ? text : "#cloud-config\n" + text).utf8))
    }

    private static func mapping(_ data: UserData) throws -> YAMLValue? {
        switch data {
        case .none: return .mapping([])
        case .merged(let value): return value
        case .written(let bytes):
            guard let text = String(validating: bytes, as: UTF8.self), UserDataKind(text) == .cloudConfig else { return nil }
            let value = try YAMLReader.read(text) ?? .mapping([])
            guard case .mapping = value else { return nil }
            return value
        }
    }
}
