import CLinux
import CRI
import Errors
import Glibc
import Linux

/// The directory on the node that `swiftlet run` makes for one pod's logs.
struct LogDirectory: Equatable {
    /// The pod's annotation that holds its directory.
    static let annotation = "swiftlet/log-directory"

    let path: String

    /// Makes `/var/log/swiftlet/NAME_UID`, or the same below $TMPDIR for a user who may not write there. $SWIFTLET_LOGS
    /// names another place.
    ///
    /// - Throws: `SwiftletError` when neither can be made.
    init(creatingFor name: String, uid: String, below bases: [String] = Self.bases()) throws {
        var failure = SwiftletError(.failedPrecondition, "no directory for logs")
        for base in bases {
            mkdir(base, 0o755)
            let path = "\(base)/\(name)_\(uid)"
            guard Self.isOurs(base) else {
                failure = SwiftletError(.permissionDenied, "making the log directory \(path): \(base) belongs to somebody else")
                continue
            }
            if mkdir(path, 0o755) == 0 {
                self.path = path
                return
            }
            failure = SwiftletError.system("making the log directory \(path)")
        }
        throw failure
    }

    /// The directory that `run` made for this pod; nil when the pod was not made by it, or names a directory that `run`
    /// would not have made.
    init?(of pod: CRIPodSandboxStatus) {
        self.init(of: pod, below: Self.bases())
    }

    init?(of pod: CRIPodSandboxStatus, below bases: [String]) {
        guard let path = pod.annotations[Self.annotation], !pod.metadata.uid.isEmpty else { return nil }
        guard bases.contains(where: { path == "\($0)/\(pod.metadata.name)_\(pod.metadata.uid)" }), !path.contains("/../") else {
            return nil
        }
        self.path = path
    }

    /// Removes the files in it and the directory itself; what is no plain file stays.
    func remove() {
        guard let entries = opendir(path) else { return }
        var names: [String] = []
        while let entry = readdir(entries) {
            names.append(String(cString: clinux_entry_name(entry)))
        }
        closedir(entries)
        for name in names where name != "." && name != ".." { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    /// A real directory of this user's: /tmp is everybody's.
    private static func isOurs(_ path: String) -> Bool {
        var status = stat()
        guard lstat(path, &status) == 0 else { return true }
        return status.st_mode & S_IFMT == S_IFDIR && status.st_uid == getuid()
    }

    /// Where log directories are made: the first that this user may write to.
    static func bases() -> [String] {
        if let chosen = getenv("SWIFTLET_LOGS").map({ String(cString: $0) }), chosen.hasPrefix("/") { return [chosen] }
        let temporary = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        return ["/var/log/swiftlet", "\(temporary)/swiftlet-logs-\(getuid())"]
    }
}
