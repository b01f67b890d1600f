/// One line of a container's log file: `<RFC 3339 time> <stdout|stderr> <P|F[:more tags]> <content>`.
/// (Kubernetes, "CRI logging": the format that the kubelet reads.)
struct CRILogLine: Equatable {
    enum Source: String, CaseIterable {
        case stdout
        case stderr
    }

    /// As the file has it.
    let timestamp: ArraySlice<UInt8>
    let source: Source
    /// The container's line goes on in the next piece of the same source.
    let isPartial: Bool
    let content: ArraySlice<UInt8>

    /// - Parameter line: without its newline.
    /// - Returns: nil when it has another form.
    init?(_ line: ArraySlice<UInt8>) {
        let blank = UInt8(ascii: " ")
        guard let first = line.firstIndex(of: blank), line[..<first].contains(UInt8(ascii: "T")) else { return nil }
        guard let second = line[(first + 1)...].firstIndex(of: blank) else { return nil }
        let tagEnd = line[(second + 1)...].firstIndex(of: blank) ?? line.endIndex
        let tag = line[(second + 1)..<tagEnd]
        guard let mark = tag.first, tag.count == 1 || tag.dropFirst().first == UInt8(ascii: ":") else { return nil }
        guard let source = Source.allCases.first(where: { line[(first + 1)..<second].elementsEqual($0.rawValue.utf8) }) else { return nil }
        guard mark == UInt8(ascii: "P") || mark == UInt8(ascii: "F") else { return nil }
        timestamp = line[..<first]
        self.source = source
        isPartial = mark == UInt8(ascii: "P")
        content = line[min(tagEnd + 1, line.endIndex)...]
    }
}
