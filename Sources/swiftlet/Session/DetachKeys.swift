import ArgumentParser

/// Keys that leave a session while it goes on, in docker's syntax: `ctrl-p,ctrl-q`, or none.
struct DetachKeys: ExpressibleByArgument, Equatable, Sendable, CustomStringConvertible {
    static let standard = DetachKeys(keys: [0x10, 0x11], description: "ctrl-p,ctrl-q")

    static let none = DetachKeys(keys: [], description: "")

    let keys: [UInt8]
    let description: String

    private init(keys: [UInt8], description: String) { (self.keys, self.description) = (keys, description) }

    /// - Returns: nil for what is no list of keys, each a character or `ctrl-` and one of a to z and `@[\]^_`.
    init?(argument: String) {
        var keys: [UInt8] = []
        for key in argument.isEmpty ? [] : argument.split(separator: ",", omittingEmptySubsequences: false) {
            let bytes = Array(key.utf8)
            if bytes.count == 1, bytes[0] >= 0x20, bytes[0] < 0x7F {
                keys.append(bytes[0])
            } else if key.hasPrefix("ctrl-"), bytes.count == 6, let control = Self.control(bytes[5]) {
                keys.append(control)
            } else {
                return nil
            }
        }
        self.init(keys: keys, description: argument)
    }

    /// The character that the key has with Ctrl: its last five bits.
    private static func control(_ key: UInt8) -> UInt8? {
        switch key {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "@"),
            UInt8(ascii: "[")...UInt8(ascii: "_"):
            key & 0x1F
        default: nil
        }
    }
}

/// Looks for the keys in what is typed, however it comes in pieces.
struct DetachWatch {
    private let keys: [UInt8]
    /// Keys at the beginning of the sequence that have been typed, and are held back.
    private var matched = 0

    init(_ keys: DetachKeys) { self.keys = keys.keys }

    /// - Returns: what goes on to the command, and whether the sequence is complete; what follows it is dropped.
    mutating func take(_ typed: some Sequence<UInt8>) -> (passed: [UInt8], isDetached: Bool) {
        guard !keys.isEmpty else { return (Array(typed), false) }
        var passed: [UInt8] = []
        for key in typed {
            // What was held back begins no sequence any more, but its end together with this key may.
            while matched > 0, key != keys[matched] {
                let rest = Self.restart(keys, matched)
                passed += keys[..<(matched - rest)]
                matched = rest
            }
            guard key == keys[matched] else {
                passed.append(key)
                continue
            }
            matched += 1
            if matched == keys.count { return (passed, true) }
        }
        return (passed, false)
    }

    /// What is held back when nothing follows.
    mutating func end() -> [UInt8] {
        defer { matched = 0 }
        return Array(keys[..<matched])
    }

    /// Of the first `count` keys, how many at their end are the beginning of the sequence as well.
    private static func restart(_ keys: [UInt8], _ count: Int) -> Int {
        (0..<count).reversed().first { keys[..<$0].elementsEqual(keys[(count - $0)..<count]) } ?? 0
    }
}
