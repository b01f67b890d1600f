import Errors

/// How a command ended, as the error stream says it.
enum CommandOutcome: Equatable {
    case exited(Int32)
    case failed(String)

    /// - Returns: nil where nothing is said: older versions tell a failure in words and success by silence.
    func message(_ version: CommandProtocol) -> String? {
        switch self {
        case .exited(0): version.hasStatus ? #"{"metadata":{},"status":"Success"}"# : nil
        case .exited(let code):
            version.hasStatus
                ? Self.status(Self.exitText(code), "NonZeroExitCode", "ExitCode", "\(code)", nil)
                : Self.exitText(code)
        case .failed(let text):
            version.hasStatus ? Self.status("Internal error occurred: \(text)", "InternalError", nil, text, 500) : text
        }
    }

    private static func exitText(_ code: Int32) -> String { "command terminated with non-zero exit code: exit status \(code)" }

    /// meta/v1's Status, with one cause.
    private static func status(_ message: String, _ reason: String, _ causeReason: String?, _ cause: String, _ code: Int?) -> String {
        let causeReason = causeReason.map { #""reason":\#(quotedJSON($0)),"# } ?? ""
        let code = code.map { #","code":\#($0)"# } ?? ""
        return #"{"metadata":{},"status":"Failure","message":\#(quotedJSON(message)),"reason":\#(quotedJSON(reason)),"#
            + #""details":{"causes":[{\#(causeReason)"message":\#(quotedJSON(cause))}]}\#(code)}"#
    }

    private static func quotedJSON(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": result += "\\\(scalar)"
            case let scalar where scalar.value < 0x20: result += "\\u00" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}

/// Sizes as a client writes them: `{"Width":80,"Height":24}`, one document after the other, in whatever pieces.
struct TerminalSizeDecoder {
    /// Go's encoder writes below 40 bytes.
    private static let maximumDocument = 256

    private var document: [UInt8] = []

    /// - Returns: the last size that the bytes complete. What is no size is passed over.
    mutating func take(_ bytes: some Sequence<UInt8>) -> TerminalSize? {
        var size: TerminalSize?
        for byte in bytes {
            if byte == UInt8(ascii: "{") { document = [] }
            if document.count < Self.maximumDocument { document.append(byte) }
            if byte == UInt8(ascii: "}") {
                size = Self.size(document) ?? size
                document = []
            }
        }
        return size
    }

    private static func size(_ document: [UInt8]) -> TerminalSize? {
        let text = String(decoding: document, as: UTF8.self).filter { !$0.isWhitespace }
        guard text.hasPrefix("{"), text.hasSuffix("}") else { return nil }
        var fields: [String: UInt16] = [:]
        for field in text.dropFirst().dropLast().split(separator: ",") {
            let parts = field.split(separator: ":")
            guard parts.count == 2, let value = UInt16(parts[1]) else { return nil }
            fields[parts[0].lowercased()] = value
        }
        guard let width = fields["\"width\""], let height = fields["\"height\""], width > 0, height > 0 else { return nil }
        return TerminalSize(width: width, height: height)
    }
}
