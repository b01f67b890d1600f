import Errors

/// A directory of the host that the guest mounts by its tag; a vhost-user backend serves it.
public struct FilesystemSpec: Sendable, Codable, Equatable {
    /// 1 to 36 of `A-Z a-z 0-9 . _ -` (virtio 1.2, section 5.11.4: 36 bytes). Unique within the machine.
    public var tag: String
    /// Where the backend listens. At most 107 bytes.
    public var socket: String

    public init(tag: String, socket: String) {
        self.tag = tag
        self.socket = socket
    }

    func validate() throws {
        guard VMSpec.isName(tag, longest: 36) else {
            throw SwiftletError(
                .invalidArgument, "filesystem tag \(tag.prefix(64).debugDescription) is not 1 to 36 letters, digits, '.', '_', '-'")
        }
        try VMSpec.checkPath(socket)
        guard socket.utf8.count < 108 else {
            throw SwiftletError(.invalidArgument, "socket path \(socket) is longer than 107 bytes; choose a shorter run directory")
        }
    }
}

/// The virtiofs device, plugged in when the first container needs it: a pod without mounts has none.
struct SharedFilesystem {
    /// The `<filesystem>` element; it takes one free root port. Needs shared guest memory, which every machine has.
    static func tag(_ filesystem: FilesystemSpec) -> XMLTag {
        XMLTag(
            "filesystem", ["type": "mount"],
            [
                XMLTag("driver", ["type": "virtiofs", "queue": "1024"]), XMLTag("source", ["socket": filesystem.socket]),
                XMLTag("target", ["dir": filesystem.tag]),
            ])
    }

    /// Whether a running domain has the filesystem of this tag, as libvirt's XML of it tells.
    static func isAttached(_ tag: String, in liveXML: String) -> Bool {
        var rest = liveXML[...]
        while let start = rest.firstRange(of: "<filesystem "), let end = rest[start.upperBound...].firstRange(of: "</filesystem>") {
            if rest[start.lowerBound..<end.lowerBound].contains("<target dir='\(tag)'/>") { return true }
            rest = rest[end.upperBound...]
        }
        return false
    }
}
