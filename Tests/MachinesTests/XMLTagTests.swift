import Testing

@testable import Machines

struct XMLTagTests {
    @Test(arguments: [
        ("a<b>&'\"", "a&lt;b&gt;&amp;&apos;&quot;"),
        ("'/><disk/><x y='", "&apos;/&gt;&lt;disk/&gt;&lt;x y=&apos;"),
        ("]]></name>", "]]&gt;&lt;/name&gt;"),
        ("line\nend\ttab\r", "line&#10;end&#9;tab&#13;"),
        ("nul\u{0}bell\u{7}", "nul\u{FFFD}bell\u{FFFD}"),
        ("ünïcode 🐦", "ünïcode 🐦"),
    ])
    func hostileValuesStayValues(text: String, escaped: String) {
        #expect(XMLTag("t", ["a": text]).rendered() == "<t a='\(escaped)'/>\n")
        #expect(XMLTag("t", text: text).rendered() == "<t>\(escaped)</t>\n")
    }

    @Test func childrenAreIndentedInOrder() {
        let tag = XMLTag("a", ["x": "1", "b": "2"], [XMLTag("c"), XMLTag("d", text: "e")])
        #expect(tag.rendered() == "<a x='1' b='2'>\n  <c/>\n  <d>e</d>\n</a>\n")
    }
}
