import CLinux
import Errors
import Glibc
import Linux

/// A directory of modules. Lists in it name files of it in the order in which they have to be loaded, each with its options behind a
/// space.
struct KernelModules {
    /// The lists of the agent's disk, in the order in which a guest loads them. What leads to the disk the initramfs has loaded.
    enum List: String {
        case network, disks, layers, growth, volumes, rest
    }

    /// Keeps the directory reachable when the root changes.
    private let directory: Int32

    /// A kernel that has everything built in needs no such directory.
    init(directory path: String) { directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }

    func close() { Glibc.close(directory) }

    func load(_ list: List, _ console: Console) { load(list: list.rawValue, console) }

    /// Loads the modules of one list. Those that are there already, or whose device is missing, are passed over; whatever
    /// needs them fails by itself and says so.
    ///
    /// - Parameter list: the list's path in the directory.
    /// - Returns: whether there is such a list, and all that it names is loaded.
    @discardableResult
    func load(list: String, _ console: Console) -> Bool {
        guard let modules = modules(list) else { return false }
        var areLoaded = true
        for (name, options) in modules {
            let file = openat(directory, name, O_RDONLY | O_CLOEXEC)
            guard file >= 0 else {
                console.write("module \(name) is missing")
                areLoaded = false
                continue
            }
            if clinux_finit_module(file, options) != 0, errno != EEXIST, errno != ENODEV {
                console.write("module \(name): \(SystemError(errno))")
                areLoaded = false
            }
            Glibc.close(file)
        }
        return areLoaded
    }

    private func modules(_ list: String) -> [(name: String, options: String)]? {
        let file = openat(directory, list, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { Glibc.close(file) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = read(file, &bytes, bytes.count)
        return bytes.prefix(max(0, count)).split(separator: UInt8(ascii: "\n")).map { line in
            let name = line.prefix { $0 != UInt8(ascii: " ") }
            return (String(decoding: name, as: UTF8.self), String(decoding: line[name.endIndex...].dropFirst(), as: UTF8.self))
        }
    }
}
