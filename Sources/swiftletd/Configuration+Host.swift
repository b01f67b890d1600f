import Errors
import Foundation
import HostRuntime

extension Configuration {
    /// Where programs of the node are looked for.
    private static let programDirectories = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    /// Of the machines' handlers.
    private static let otherHandlers: Set = ["microvm", "vm"]

    /// One that is found nowhere is named as if it were in the usual place: what misses it says so.
    private static func program(_ name: String) -> String {
        if name.contains("/") { return name }
        let places = programDirectories.map { "\($0)/\(name)" }
        return places.first { FileManager.default.isExecutableFile(atPath: $0) } ?? "/usr/bin/\(name)"
    }

    func hostConfiguration() throws -> HostConfiguration {
        var configuration = HostConfiguration(
            runDirectory: run + "/host", stateDirectory: root + "/host", conmon: Self.program(host.conmon),
            usesSystemd: try checkedCgroupDriver() == .systemd)
        configuration.pause = Self.besideDaemon("swiftlet-pause")
        configuration.logRotation = try logRotation()
        if let bad = host.cdiDirectories.first(where: { !$0.hasPrefix("/") || $0.split(separator: "/").contains("..") }) {
            throw SwiftletError(.invalidArgument, "host.cdi_spec_dirs \(quoted(bad)) is no absolute path")
        }
        configuration.cdiDirectories = host.cdiDirectories
        return configuration
    }

    /// - Throws: `.invalidArgument` naming the key whose value makes no sense.
    func hostHandlers() throws -> [HostRuntimeConfiguration] {
        var names = Self.otherHandlers
        let handlers = try host.handlers.map { handler in
            let field = "host.handlers \(quoted(handler.name))"
            guard !handler.name.isEmpty, handler.name.utf8.count <= 63, handler.name.utf8.allSatisfy(Self.isLabelByte) else {
                throw SwiftletError(.invalidArgument, "\(field): a handler's name has 1 to 63 letters, digits and dashes")
            }
            guard names.insert(handler.name).inserted else {
                throw SwiftletError(.invalidArgument, "\(field): there is another handler of this name")
            }
            let path = Self.program(handler.runtime)
            let program = URL(fileURLWithPath: path).lastPathComponent
            let kind = handler.kind.isEmpty ? (["crun", "runsc"].contains(program) ? program : "runc") : handler.kind
            guard path.hasPrefix("/"), let kind = HostRuntimeConfiguration.Kind(rawValue: kind) else {
                throw SwiftletError(.invalidArgument, "\(field): runtime is an absolute path or a name, kind runc, crun or runsc")
            }
            let isRoot = { (option: String) in option.drop { $0 == "-" }.prefix { $0 != "=" } == "root" }
            if let bad = handler.options.first(where: { !$0.hasPrefix("-") || $0.utf8.contains(0) || isRoot($0) }) {
                throw SwiftletError(
                    .invalidArgument, "\(field): options \(quoted(bad)): an option is --name or --name=value, and none is --root")
            }
            return HostRuntimeConfiguration(
                name: handler.name, path: path, kind: kind, options: handler.options, namespaces: handler.namespaces)
        }
        guard host.nodePods.isEmpty || handlers.contains(where: { $0.name == host.nodePods }) else {
            throw SwiftletError(.invalidArgument, "host.node_pods \(quoted(host.nodePods)) is none of host.handlers")
        }
        return handlers
    }

    private static func isLabelByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"): true
        default: false
        }
    }
}
