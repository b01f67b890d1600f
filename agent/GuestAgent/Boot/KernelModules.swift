import CLinux
import Errors
import Glibc
import Linux

/// The modules of the initramfs. Lists in the directory name their files in the order in which they have to be loaded, each with
/// its options behind a space.
struct KernelModules {
    /// The lists, in the order in which a guest loads them.
    enum List: String, CaseIterable {
        case first, network, disks, layers, growth, volumes, rest
    }

    /// Keeps the directory reachable when the root changes.
    private let directory: Int32

    /// A kernel that has everything built in needs no such directory.
    init(directory path: String) { directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }

    /// Loads the modules of one list. Those that are there already, or whose device is missing, are passed over; whatever
    /// needs them fails by itself and says so.
    func load(_ list: List, _ console: Console) {
        for (name, options) in modules(list) {
            let file = openat(directory, name, O_RDONLY | O_CLOEXEC)
            guard file >= 0 else {
                console.write("module \(name) is missing")
                continue
            }
            if clinux_finit_module(file, options) != 0, errno != EEXIST, errno != ENODEV {
                console.write("module \(name): \(SystemError(errno))")
            }
            close(file)
        }
    }

    /// Gives the files' memory back once all are loaded.
    func remove() {
        for list in List.allCases {
            for (name, _) in modules(list) { unlinkat(directory, name, 0) }
            unlinkat(directory, list.rawValue, 0)
        }
        close(directory)
    }

    private func modules(_ list: List) -> [(name: String, options: String)] {
        let file = openat(directory, list.rawValue, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return [] }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = read(file, &bytes, bytes.count)
        return bytes.prefix(max(0, count)).split(separator: UInt8(ascii: "\n")).map { line in
            let name = line.prefix { $0 != UInt8(ascii: " ") }
            return (String(decoding: name, as: UTF8.self), String(decoding: line[name.endIndex...].dropFirst(), as: UTF8.self))
        }
    }
}
