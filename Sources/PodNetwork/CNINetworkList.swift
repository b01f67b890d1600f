import Errors
import FoundationEssentials
import Runtime

/// A chain of CNI plugins: a .conflist file, or a .conf file as a chain of one.
///
/// The format is that of the CNI specification 1.0.0, section 1.
struct CNINetworkList: Sendable, Equatable, Codable {
    let name: String
    let cniVersion: String
    let disableCheck: Bool
    /// Whether other runtimes attach pods to the network too, so that none may clean up by itself. Nil in records of earlier releases.
    let disableGC: Bool?
    let plugins: [JSONValue]

    /// Those whose plugins pass results along and answer in the form that is read here.
    static let supportedVersions = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]

    /// CHECK exists, and DEL is given the previous result, from 0.4.0 on.
    var knowsCheck: Bool { !cniVersion.hasPrefix("0.3.") }

    /// STATUS and GC exist from 1.1.0 on.
    var knowsStatusAndGC: Bool { cniVersion == "1.1.0" }

    /// - Throws: `failedPrecondition` naming the file and what is wrong in it.
    init(parsing data: Data, file: String) throws {
        func broken(_ what: String) -> SwiftletError {
            SwiftletError(.failedPrecondition, "CNI configuration \(file): \(what)")
        }
        let document: JSONValue
        do {
            document = try JSONDecoder().decode(JSONValue.self, from: data)
        } catch {
            throw SwiftletError(.failedPrecondition, "CNI configuration \(file) is not valid JSON", cause: error)
        }
        guard document.object != nil else { throw broken("a JSON object is expected") }
        guard let name = document["name"]?.string, Self.isIdentifier(name) else {
            throw broken("\"name\" is missing or has characters other than letters, digits, '.', '_' and '-'")
        }
        guard let version = document["cniVersion"]?.string, Self.supportedVersions.contains(version) else {
            let found = document["cniVersion"]?.string.map { "\"cniVersion\" \($0) is not supported" } ?? "\"cniVersion\" is missing"
            throw broken("\(found); use one of \(Self.supportedVersions.joined(separator: ", "))")
        }
        let plugins: [JSONValue]
        if let chain = document["plugins"] {
            guard let list = chain.array, !list.isEmpty else { throw broken("\"plugins\" is not a list with at least one plugin") }
            plugins = list
        } else {
            plugins = [document]
        }
        for plugin in plugins {
            guard let type = plugin["type"]?.string, Self.isIdentifier(type) else {
                throw broken("a plugin has no \"type\", or one that is no file name")
            }
        }
        self.name = name
        self.cniVersion = version
        self.disableCheck = document["disableCheck"]?.bool ?? false
        self.disableGC = document["disableGC"]?.bool ?? false
        self.plugins = plugins
    }

    /// The first configuration file of the directory in lexical order, as containerd takes it.
    ///
    /// - Throws: `failedPrecondition` when there is none or it is broken. A broken first file is not passed over: the pods
    ///   would land on a network that nobody meant.
    static func load(from directory: String) throws -> CNINetworkList {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        let wanted = names.filter { name in [".conf", ".conflist", ".json"].contains { name.hasSuffix($0) } && !name.hasPrefix(".") }
        guard let first = wanted.min() else {
            throw SwiftletError(
                .failedPrecondition, "no CNI configuration in \(directory): install a network plugin or put a .conflist file there")
        }
        let path = "\(directory)/\(first)"
        guard let data = FileManager.default.contents(atPath: path) else {
            throw SwiftletError(.failedPrecondition, "CNI configuration \(path) cannot be read")
        }
        return try CNINetworkList(parsing: data, file: path)
    }

    /// The specification's form of network names, container ids and plugin types.
    static func isIdentifier(_ text: String) -> Bool {
        func isAlphanumeric(_ byte: UInt8) -> Bool {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
            default: false
            }
        }
        guard let first = text.utf8.first, isAlphanumeric(first) else { return false }
        return text.utf8.allSatisfy { isAlphanumeric($0) || [UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-")].contains($0) }
    }
}
