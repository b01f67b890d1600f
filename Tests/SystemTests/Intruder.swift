import Errors
import Foundation
import Linux

/// A process without a capability that tries to reach what is not its own.
struct Intruder {
    /// What it tries to reach; paths are known to it, however they are hidden.
    struct Aims: Encodable {
        /// Memory, descriptors, signals.
        var processes: [Int32] = []
        /// Files to read and to write, sockets to connect to, directories to list, by what lies there.
        var paths: [String] = []
    }

    var uid: UInt32
    var gid: UInt32

    /// One line for each aim that is reached. What exists and is not permitted is not; every other answer is the aim's own.
    private static let script = """
        import json, os, socket, stat, sys
        aims = json.load(sys.stdin)
        def attempt(what, body):
            try:
                body()
            except PermissionError:
                return
            except (FileNotFoundError, ProcessLookupError):
                return
            except OSError:
                pass
            print(what)
        def connect(path):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(path)
        for pid in aims["processes"]:
            attempt(f"memory {pid}", lambda: open(f"/proc/{pid}/mem", "rb").close())
            attempt(f"signal {pid}", lambda: os.kill(pid, 0))
            for fd in range(64):
                attempt(f"descriptor {pid}/{fd}", lambda: os.close(os.open(f"/proc/{pid}/fd/{fd}", os.O_PATH)))
        for path in aims["paths"]:
            try:
                mode = os.lstat(path).st_mode
            except OSError:
                # What cannot be looked at may be tried all the same.
                mode = 0
            if not stat.S_ISLNK(mode):
                if not stat.S_ISSOCK(mode):
                    attempt(f"list {path}" if stat.S_ISDIR(mode) else f"read {path}",
                        lambda: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK)))
                if stat.S_ISREG(mode) or mode == 0:
                    attempt(f"write {path}", lambda: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK)))
                # sun_path has no more (unix(7)).
                if (stat.S_ISSOCK(mode) or mode == 0) and len(path) < 108:
                    attempt(f"connect {path}", lambda: connect(path))
        """

    /// - Returns: what it has reached.
    func reaches(_ aims: Aims) async throws -> [String] {
        let arguments = [
            "--reuid", "\(uid)", "--regid", "\(gid)", "--clear-groups", "--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs",
            "/usr/bin/python3", "-c", Self.script,
        ]
        let result = try await Spawn("/usr/bin/setpriv", arguments, directory: "/", input: Array(try JSONEncoder().encode(aims))).run()
        guard result.succeeded else { throw SwiftletError(.internal, "the intruder failed: \(result.errorText)") }
        return result.outputText.split(separator: "\n").map(String.init)
    }
}
