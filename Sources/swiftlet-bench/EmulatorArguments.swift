import Foundation

/// The command line of a machine's QEMU, as libvirt made it, and what is left of it without libvirt.
struct EmulatorArguments {
    private var options: [(name: String, value: String?)] = []

    /// - Parameter arguments: without the program's name.
    init(_ arguments: [String]) {
        for argument in arguments {
            if argument.hasPrefix("-") {
                options.append((argument, nil))
            } else if let last = options.indices.last, options[last].value == nil {
                options[last].value = argument
            }
        }
    }

    /// As a process was started; empty when it is gone.
    init(of pid: Int32) {
        let data = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") ?? Data()
        self.init(data.split(separator: 0).dropFirst().map { String(decoding: $0, as: UTF8.self) })
    }

    /// The same machine, started at once and by itself: without what libvirt hands over (descriptors, secrets) or confines by, with files
    /// and sockets of its own in `directory` in place of those in `state`.
    ///
    /// - Parameters:
    ///   - state: the directory of the machine's disks.
    ///   - tap: the interface that QEMU makes, for machines with one.
    func alone(in directory: String, insteadOf state: String, tap: String) -> [String] {
        options.flatMap { option -> [String] in
            let value = option.value?.replacingOccurrences(of: state + "/", with: directory + "/")
            switch (option.name, value) {
            case ("-S", _), ("-no-shutdown", _), ("-mon", _), ("-msg", _), ("-sandbox", _), ("-add-fd", _): return []
            case ("-object", let value?) where value.contains(#""qom-type":"secret""#): return []
            case ("-vnc", let value?):
                let others = value.split(separator: ",").dropFirst().map { "," + $0 }.joined()
                return ["-vnc", "vnc=unix:\(directory)/vnc\(others)"]
            case ("-netdev", let value?): return ["-netdev", "tap,id=\(Self.id(value)),ifname=\(tap),script=no,downscript=no"]
            case ("-chardev", let value?):
                let id = Self.id(value)
                if id == "charmonitor" { return [] }
                guard id.hasPrefix("charserial") else { return ["-chardev", "socket,id=\(id),path=\(directory)/\(id),server=on,wait=off"] }
                return ["-chardev", "file,id=\(id),path=\(directory)/console.log"]
            default: return [option.name] + (value.map { [$0] } ?? [])
            }
        }
    }

    /// Of a value in JSON or of the form "type,id=name,…".
    private static func id(_ value: String) -> String {
        if let object = try? JSONSerialization.jsonObject(with: Data(value.utf8)) as? [String: Any] { return object["id"] as? String ?? "" }
        return value.split(separator: ",").first { $0.hasPrefix("id=") }.map { String($0.dropFirst(3)) } ?? ""
    }
}
