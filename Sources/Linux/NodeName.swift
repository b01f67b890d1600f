import Glibc

/// What the node is called (uname(2)).
public enum NodeName {
    public static var current: String {
        var names = utsname()
        uname(&names)
        return withUnsafeBytes(of: names.nodename) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}
