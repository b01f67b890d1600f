import CYAML
import Errors

/// Reads one YAML document by libyaml's events. What it may become is counted while it is read: an alias costs what it stands for.
package struct YAMLReader {
    package struct Limits: Sendable {
        /// Of the text, and of the values' texts after aliases are expanded.
        package var bytes: Int
        /// After aliases are expanded.
        package var nodes: Int
        package var depth: Int

        package init(bytes: Int = 2 << 20, nodes: Int = 50_000, depth: Int = 50) {
            (self.bytes, self.nodes, self.depth) = (bytes, nodes, depth)
        }
    }

    private struct Anchor {
        var value: YAMLValue
        var nodes: Int
        var bytes: Int
    }

    private let limits: Limits
    private let parser: UnsafeMutablePointer<yaml_parser_t>
    private let lines: Int
    private var anchors: [String: Anchor] = [:]
    private var nodes = 0
    private var bytes = 0

    /// - Returns: nil for a document without contents.
    /// - Throws: `.invalidArgument` saying where it is wrong, or which limit it exceeds; without its values, which may be secrets.
    package static func read(_ text: String, limits: Limits = Limits()) throws -> YAMLValue? {
        guard text.utf8.count <= limits.bytes else {
            throw SwiftletError(.invalidArgument, "\(text.utf8.count) bytes of YAML are more than \(limits.bytes)")
        }
        let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
        guard yaml_parser_initialize(parser) == 1 else {
            parser.deallocate()
            throw SwiftletError(.resourceExhausted, "libyaml: out of memory")
        }
        defer {
            yaml_parser_delete(parser)
            parser.deallocate()
        }
        let bytes = Array(text.utf8)
        return try bytes.withUnsafeBufferPointer { bytes in
            yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
            yaml_parser_set_input_string(parser, bytes.baseAddress, bytes.count)
            var reader = YAMLReader(limits: limits, parser: parser, lines: bytes.reduce(1) { $0 + ($1 == 0x0A ? 1 : 0) })
            return try reader.document()
        }
    }

    private init(limits: Limits, parser: UnsafeMutablePointer<yaml_parser_t>, lines: Int) {
        self.limits = limits
        self.parser = parser
        self.lines = lines
    }

    private enum Event {
        case start
        case end
        case documentStart
        case documentEnd
        case alias(String)
        case scalar(YAMLScalar, anchor: String?)
        case sequenceStart(anchor: String?)
        case mappingStart(anchor: String?)
        case collectionEnd
    }

    private mutating func document() throws -> YAMLValue? {
        _ = try next()
        guard case .documentStart = try next() else { return nil }
        let value = try self.value(try next(), depth: 0)
        _ = try next()
        guard case .end = try next() else { throw error("a second document") }
        return value
    }

    private mutating func value(_ event: Event, depth: Int) throws -> YAMLValue {
        guard depth < limits.depth else { throw error("nested deeper than \(limits.depth) levels") }
        let start = (nodes: nodes, bytes: bytes)
        let (value, anchor): (YAMLValue, String?)
        switch event {
        case .alias(let name):
            guard let target = anchors[name] else { throw error("an alias of no anchor") }
            try count(nodes: target.nodes, bytes: target.bytes)
            return target.value
        case .scalar(let scalar, let name):
            try count(nodes: 1, bytes: scalar.text.utf8.count)
            (value, anchor) = (.scalar(scalar), name)
        case .sequenceStart(let name):
            try count(nodes: 1, bytes: 0)
            (value, anchor) = (.sequence(try items(depth: depth)), name)
        case .mappingStart(let name):
            try count(nodes: 1, bytes: 0)
            (value, anchor) = (.mapping(try members(depth: depth)), name)
        case .start, .end, .documentStart, .documentEnd, .collectionEnd: throw error("not a value")
        }
        if let anchor { anchors[anchor] = Anchor(value: value, nodes: nodes - start.nodes, bytes: bytes - start.bytes) }
        return value
    }

    private mutating func items(depth: Int) throws -> [YAMLValue] {
        var items: [YAMLValue] = []
        while true {
            let event = try next()
            if case .collectionEnd = event { return items }
            items.append(try value(event, depth: depth + 1))
        }
    }

    private mutating func members(depth: Int) throws -> [YAMLValue.Member] {
        var members: [YAMLValue.Member] = []
        while true {
            let event = try next()
            if case .collectionEnd = event { return members }
            guard case .scalar(let key) = try value(event, depth: depth + 1) else { throw error("a key that is no scalar") }
            members.append(YAMLValue.Member(key: key, value: try value(try next(), depth: depth + 1)))
        }
    }

    private mutating func count(nodes more: Int, bytes moreBytes: Int) throws {
        nodes += more
        bytes += moreBytes
        guard nodes <= limits.nodes else { throw error("more than \(limits.nodes) values, with aliases expanded") }
        guard bytes <= limits.bytes else { throw error("more than \(limits.bytes) bytes, with aliases expanded") }
    }

    private func next() throws -> Event {
        var event = yaml_event_t()
        guard yaml_parser_parse(parser, &event) == 1 else {
            let problem = parser.pointee.problem.map { String(cString: $0) } ?? "malformed"
            throw error(problem, line: max(parser.pointee.problem_mark.line, parser.pointee.mark.line))
        }
        defer { yaml_event_delete(&event) }
        switch event.type {
        case YAML_STREAM_START_EVENT: return .start
        case YAML_DOCUMENT_START_EVENT: return .documentStart
        case YAML_DOCUMENT_END_EVENT: return .documentEnd
        case YAML_ALIAS_EVENT: return .alias(Self.text(event.data.alias.anchor) ?? "")
        case YAML_SCALAR_EVENT:
            let scalar = event.data.scalar
            let text = String(decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self)
            let tag = Self.text(scalar.tag)
            guard tag.map(Self.isKnown) ?? true else { throw error("a tag that is none of YAML's own") }
            let value = YAMLScalar(
                // PyYAML takes "!" for no tag.
                text: text, isPlain: scalar.style == YAML_PLAIN_SCALAR_STYLE && (scalar.plain_implicit == 1 || tag == "!"),
                tag: tag == YAML_STR_TAG || tag == "!" ? nil : tag)
            return .scalar(value, anchor: Self.text(scalar.anchor))
        case YAML_SEQUENCE_START_EVENT: return .sequenceStart(anchor: Self.text(event.data.sequence_start.anchor))
        case YAML_MAPPING_START_EVENT: return .mappingStart(anchor: Self.text(event.data.mapping_start.anchor))
        case YAML_SEQUENCE_END_EVENT, YAML_MAPPING_END_EVENT: return .collectionEnd
        default: return .end
        }
    }

    private static func text(_ pointer: UnsafeMutablePointer<yaml_char_t>?) -> String? { pointer.map { String(cString: $0) } }

    /// PyYAML's safe loader takes no others.
    private static func isKnown(_ tag: String) -> Bool {
        let own = "tag:yaml.org,2002:"
        let isPart = { (byte: UInt8) in (0x61...0x7A).contains(byte) || byte == 0x2F }
        return tag == "!" || tag.hasPrefix(own) && tag.utf8.dropFirst(own.utf8.count).allSatisfy(isPart)
    }

    private func error(_ problem: String, line: Int? = nil) -> SwiftletError {
        // libyaml counts the end as a line.
        SwiftletError(.invalidArgument, "YAML, line \(min((line ?? parser.pointee.mark.line) + 1, lines)): \(problem)")
    }
}
