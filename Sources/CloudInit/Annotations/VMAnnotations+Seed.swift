import Errors

/// What annotations say of user-data, before anything is read from mounts.
struct UserDataAnnotations: Sendable, Equatable {
    enum Encoding: String, Sendable, CaseIterable {
        case plain
        case base64
    }

    /// As written. Of Virtlet's annotation a mapping in YAML or JSON, of Swiftlet's anything that cloud-init takes.
    var inline: String?
    /// Takes the place of all other user-data.
    var script: String?
    var source: MountSource?
    var encoding = Encoding.plain
    /// Inline user-data, and inline keys, take the place of those of the sources.
    var overwrites = false
}

extension VMAnnotations {
    mutating func readSeed(_ reader: inout AnnotationReader) {
        readFormat(&reader)
        if let annotation = reader.take("meta-data", virtlet: "VirtletCloudInitMetaData") { metaData = reader.mapping(annotation) }
        readUserData(&reader)
        if let (name, value) = reader.take("ssh-keys", virtlet: "VirtletSSHKeys") {
            sshKeys = SSHKeys.lines(value)
            if sshKeys.contains(where: { !SSHKeys.isKey($0) }) { reader.refuse(name, "not one SSH public key a line") }
        }
        sshKeySource = source("ssh-keys-from", virtlet: "VirtletSSHKeySource", takesKey: true, &reader)
        fileSource = source("files-from", virtlet: "VirtletFilesFromDataSource", takesKey: false, &reader)
        if let (name, value) = reader.take("instance-id") {
            if (1...128).contains(value.utf8.count),
                value.utf8.allSatisfy({ (0x21...0x7E).contains($0) && $0 != 0x2F && $0 != 0x22 && $0 != 0x5C })
            {
                instanceID = value
            } else {
                reader.refuse(name, "\(quoted(value)) is not 1 to 128 printable characters without spaces, quotes and slashes")
            }
        }
    }

    private mutating func readFormat(_ reader: inout AnnotationReader) {
        if let annotation = reader.take("seed", virtlet: "VirtletCloudInitImageType"), !annotation.value.isEmpty {
            let value = annotation.value.lowercased()
            if let format = SeedFormat(rawValue: value) {
                seedFormat = format
            } else if value == "none", annotation.name.hasPrefix(AnnotationReader.prefix) {
                seedFormat = nil
            } else {
                reader.refuse(annotation.name, "\(quoted(annotation.value)) is none of nocloud, configdrive, none")
            }
        }
        if let mode: NetworkConfigMode = reader.choice("network-config") {
            networkConfig = mode
        } else if reader.takeVirtlet("VirtletForceDHCPNetworkConfig") == "true" {
            networkConfig = .dhcp
        }
    }

    private mutating func readUserData(_ reader: inout AnnotationReader) {
        if let annotation = reader.take("user-data", virtlet: "VirtletCloudInitUserData") {
            let isOwn = annotation.name.hasPrefix(AnnotationReader.prefix)
            if !isOwn || UserDataKind(annotation.value) == .cloudConfig { _ = reader.mapping(annotation) }
            userData.inline = annotation.value
        }
        if let script = reader.takeVirtlet("VirtletCloudInitUserDataScript"), !script.isEmpty { userData.script = script }
        userData.overwrites = reader.flag("user-data-overwrite", virtlet: "VirtletCloudInitUserDataOverwrite")
        userData.source = source("user-data-from", virtlet: "VirtletCloudInitUserDataSource", takesKey: false, &reader)
        if let key = reader.takeVirtlet("VirtletCloudInitUserDataSourceKey") {
            if case .volume(let kind, let volume, _) = userData.source {
                userData.source = .volume(kind, name: volume, key: key)
            } else {
                reader.refuse("VirtletCloudInitUserDataSourceKey", "given without VirtletCloudInitUserDataSource")
            }
        }
        if let encoding: UserDataAnnotations.Encoding = reader.choice(
            "user-data-encoding", virtlet: "VirtletCloudInitUserDataSourceEncoding")
        {
            userData.encoding = encoding
        }
    }

    /// Where in the pod's mounts something is: Virtlet's `configmap/NAME[/KEY]`, or a path.
    private func source(
        _ own: String, virtlet: String, takesKey: Bool, _ reader: inout AnnotationReader
    ) -> MountSource? {
        guard let (name, value) = reader.take(own, virtlet: virtlet) else { return nil }
        if name.hasPrefix(AnnotationReader.prefix) {
            if let path = GuestPath(value) { return .path(path.text) }
            reader.refuse(name, "\(quoted(value)) is no path of one of the pod's mounts, or of a file in it")
            return nil
        }
        let parts = value.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard (parts.count == 2 || takesKey && parts.count == 3), !parts.contains(""),
            let kind = MountSource.Kind(rawValue: parts[0].lowercased())
        else {
            reader.refuse(
                name, "\(quoted(value)) is not configmap/NAME\(takesKey ? "[/KEY]" : "") or secret/NAME\(takesKey ? "[/KEY]" : "")")
            return nil
        }
        return .volume(kind, name: parts[1], key: parts.count == 3 ? parts[2] : nil)
    }
}

enum SSHKeys {
    static func lines(_ text: String) -> [String] {
        text.split(whereSeparator: \.isNewline).map { line in
            String(line.trimmingPrefix { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
        }.filter { !$0.isEmpty && !$0.hasPrefix("#") }
    }

    /// One line of text as sshd(8) describes authorized_keys, as far as its form goes: options, then a type, then base64.
    static func isKey(_ line: String) -> Bool {
        line.utf8.count <= 16 << 10 && line.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control || $0 == "\t" }
            && line.split(whereSeparator: \.isWhitespace).count >= 2
    }
}
