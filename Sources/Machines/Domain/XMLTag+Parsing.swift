import Errors
import Foundation
import FoundationXML

extension XMLTag {
    /// Reads an XML document.
    ///
    /// - Throws: `internal` for text that is not one.
    init(parsing document: String) throws {
        let builder = TagBuilder()
        let parser = XMLParser(data: Data(document.utf8))
        parser.shouldResolveExternalEntities = false
        parser.delegate = builder
        guard parser.parse(), let root = builder.root else {
            throw SwiftletError(.internal, "read libvirt's XML", cause: parser.parserError)
        }
        self = root
    }

    /// The first child of this name.
    subscript(_ name: String) -> XMLTag? { children.first { $0.name == name } }

    func all(_ name: String) -> [XMLTag] { children.filter { $0.name == name } }

    func attribute(_ name: String) -> String? { attributes.first { $0.name == name }?.value }
}

/// Builds the tree from the parser's reports.
private final class TagBuilder: NSObject, XMLParserDelegate {
    private(set) var root: XMLTag?
    /// Elements that are not closed yet, the innermost last.
    private var open: [(tag: XMLTag, text: String)] = []

    func parser(
        _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?, attributes: [String: String]
    ) {
        var tag = XMLTag(name)
        tag.attributes = attributes.sorted { $0.key < $1.key }.map { XMLTag.Attribute(name: $0.key, value: $0.value) }
        open.append((tag, ""))
    }

    func parser(_ parser: XMLParser, foundCharacters text: String) {
        guard !open.isEmpty else { return }
        open[open.count - 1].text += text
    }

    func parser(_ parser: XMLParser, didEndElement name: String, namespaceURI: String?, qualifiedName: String?) {
        guard let (element, text) = open.popLast() else { return }
        var tag = element
        // Between elements there is only indentation.
        if tag.children.isEmpty, !text.isEmpty { tag.text = text }
        if open.isEmpty { root = tag } else { open[open.count - 1].tag.children.append(tag) }
    }
}
