import Errors
import FoundationEssentials
import Linux
import Runtime

/// A network list with places for what the kubelet reports of the node's addresses. It is JSON itself: a place is a string that
/// nothing else stands in.
///
/// | place | becomes |
/// |---|---|
/// | `"{{.PodCIDR}}"` | the first range: `"10.244.0.0/24"` |
/// | `"{{.PodCIDRRanges}}"` | host-local's "ranges": `[[{"subnet": "10.244.0.0/24"}], [{"subnet": "fd00::/64"}]]` |
/// | `"{{.Routes}}"` | a default route for each address family of the ranges: `[{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]` |
///
/// The names are those of containerd's templates, which are text with loops instead.
struct NetworkTemplate {
    /// In the configuration directory. Network plugins that are installed with a name before it come first.
    static let fileName = "10-swiftlet.conflist"
    /// Bytes.
    private static let longest = 1 << 20

    private let path: String
    private let document: JSONValue

    /// - Throws: `failedPrecondition` naming the file and what is wrong with it.
    init(path: String) throws {
        self.path = path
        let data: Data
        do {
            data = Data(try KernelFile.read(path, limit: Self.longest))
        } catch {
            throw SwiftletError(.failedPrecondition, "CNI template \(path) cannot be read", cause: error)
        }
        do {
            document = try JSONDecoder().decode(JSONValue.self, from: data)
        } catch {
            throw SwiftletError(
                .failedPrecondition, "CNI template \(path) is not valid JSON; write each place as a string, such as \"{{.PodCIDR}}\"",
                cause: error)
        }
    }

    /// The network list for these ranges, the first of which is the node's main one.
    ///
    /// - Throws: `failedPrecondition` for an unknown place, and for what is no network list.
    func rendered(_ ranges: [IPPrefix]) throws -> [UInt8] {
        let filled = try fill(document, Self.places(ranges))
        guard filled["plugins"] != nil else {
            throw SwiftletError(.failedPrecondition, "CNI template \(path) has no list of \"plugins\"")
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        let data = try encoder.encode(filled)
        _ = try CNINetworkList(parsing: data, file: path)
        return Array(data)
    }

    private static func places(_ ranges: [IPPrefix]) -> [String: JSONValue] {
        let subnets = ranges.compactMap { IPPrefix(address: $0.network, length: $0.length)?.description }
        let families = [false, true].filter { ipv6 in ranges.contains { $0.address.isIPv6 == ipv6 } }
        return [
            "{{.PodCIDR}}": .string(subnets.first ?? ""),
            "{{.PodCIDRRanges}}": .array(subnets.map { .array([.object(["subnet": .string($0)])]) }),
            "{{.Routes}}": .array(families.map { .object(["dst": .string(IPPrefix.defaultRoute(ipv6: $0).description)]) }),
        ]
    }

    private func fill(_ value: JSONValue, _ places: [String: JSONValue]) throws -> JSONValue {
        switch value {
        case .null, .bool, .integer, .number: return value
        case .array(let values): return .array(try values.map { try fill($0, places) })
        case .object(let members): return .object(try members.mapValues { try fill($0, places) })
        case .string(let text):
            guard text.contains("{{") else { return value }
            guard let content = places[text.filter { $0 != " " }] else {
                throw SwiftletError(
                    .failedPrecondition,
                    "CNI template \(path): \(text.prefix(80).debugDescription) is none of \(places.keys.sorted().joined(separator: ", "))")
            }
            return content
        }
    }
}
