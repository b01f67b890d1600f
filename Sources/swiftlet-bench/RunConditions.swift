import Foundation
import Glibc
import Linux

/// Where and with what a run was made.
struct RunConditions: Sendable {
    var date: String
    var machine: String
    var host: String
    var versions: [String]
    /// Processes that wanted to run, on average over the minute before the start.
    var load: String

    static func now(guest: GuestFiles) async -> RunConditions {
        var versions: [String] = []
        for (program, arguments) in [
            ("/usr/bin/qemu-system-x86_64", ["--version"]), ("/usr/sbin/libvirtd", ["--version"]), ("/usr/sbin/runc", ["--version"]),
        ] {
            let said = try? await Spawn(program, arguments, deadline: .seconds(10)).run().outputText
            if let line = said?.split(separator: "\n").first { versions.append(String(line)) }
        }
        if !guest.kernelRelease.isEmpty { versions.append("guest kernel \(guest.kernelRelease)") }
        let formatter = ISO8601DateFormatter()
        formatter.timeZone = TimeZone(identifier: "UTC")
        return RunConditions(
            date: formatter.string(from: Date()), machine: machineText(), host: hostText(), versions: versions,
            load: contents("/proc/loadavg").split(separator: " ").first.map(String.init) ?? "unknown")
    }

    private static func machineText() -> String {
        let model = value(of: "model name", in: contents("/proc/cpuinfo"), separator: ":") ?? "unknown processor"
        let memory = value(of: "MemTotal", in: contents("/proc/meminfo"), separator: ":").flatMap { UInt64($0.prefix { $0.isNumber }) } ?? 0
        return "\(sysconf(Int32(_SC_NPROCESSORS_ONLN))) x \(model), \((memory + 524_288) >> 20) GiB"
    }

    private static func hostText() -> String {
        let name = value(of: "PRETTY_NAME", in: contents("/etc/os-release"), separator: "=") ?? "Linux"
        let release = contents("/proc/sys/kernel/osrelease").trimmingCharacters(in: .whitespacesAndNewlines)
        return "\(name.trimmingCharacters(in: ["\""])), Linux \(release)"
    }

    private static func value(of key: String, in text: String, separator: Character) -> String? {
        text.split(separator: "\n").first { $0.hasPrefix(key) }
            .flatMap { $0.split(separator: separator, maxSplits: 1).dropFirst().first }
            .map { $0.trimmingCharacters(in: .whitespaces) }
    }

    private static func contents(_ path: String) -> String {
        (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
    }
}

/// What a guest brings along, in bytes.
struct GuestSizes: Sendable {
    var agent: UInt64?
    var initramfs: UInt64?
    var kernel: UInt64?
}

extension GuestSizes {
    init(agent: String, guest: GuestFiles) {
        self.agent = Self.size(agent)
        initramfs = Self.size(guest.initramfs)
        kernel = Self.size(guest.kernel)
    }

    private static func size(_ path: String) -> UInt64? {
        var information = stat()
        return stat(path, &information) == 0 ? UInt64(information.st_size) : nil
    }
}
