import Foundation
import Linux

/// The processes of this PID namespace at one moment.
struct ProcessTree {
    struct Entry {
        var identity: ProcessIdentity
        var parent: Int32
        /// The program's name without its directory.
        var program: String
        var commandLine: String
    }

    private var entries: [Int32: Entry] = [:]

    static func now() -> ProcessTree {
        var tree = ProcessTree()
        for name in (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [] {
            guard let pid = Int32(name), let identity = ProcessIdentity.of(pid), let parent = parent(of: pid),
                let data = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline")
            else { continue }
            let arguments = data.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
            tree.entries[pid] = Entry(
                identity: identity, parent: parent, program: arguments.first?.split(separator: "/").last.map(String.init) ?? "",
                commandLine: arguments.joined(separator: " "))
        }
        return tree
    }

    /// Processes with a path below one of the directories in their command line, and all their descendants; not this process.
    func processes(of directories: [String]) -> [Entry] {
        let named = entries.values.filter { entry in
            entry.identity.pid != getpid() && directories.contains { entry.commandLine.contains($0 + "/") }
        }
        var found: [Int32: Entry] = [:]
        var queue = named
        while let entry = queue.popLast() {
            guard found.updateValue(entry, forKey: entry.identity.pid) == nil else { continue }
            queue += entries.values.filter { $0.parent == entry.identity.pid }
        }
        return found.values.sorted { $0.identity.pid < $1.identity.pid }
    }

    /// Field 4 of /proc/PID/stat, counted from behind the program's name, which may hold anything (proc(5)).
    private static func parent(of pid: Int32) -> Int32? {
        guard let line = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8), let end = line.lastIndex(of: ")")
        else { return nil }
        let fields = line[line.index(after: end)...].split(separator: " ")
        return fields.count > 1 ? Int32(fields[1]) : nil
    }
}
