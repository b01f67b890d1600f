import Errors
import Logging

/// Makes lines of the log printable: what a guest, an image or a registry has named can forge no line and move no terminal's cursor.
public struct PrintableLogHandler: LogHandler {
    private var handler: any LogHandler

    public init(_ handler: any LogHandler) {
        self.handler = handler
    }

    public var metadata: Logger.Metadata {
        get { handler.metadata }
        set { handler.metadata = newValue }
    }

    public var logLevel: Logger.Level {
        get { handler.logLevel }
        set { handler.logLevel = newValue }
    }

    public var metadataProvider: Logger.MetadataProvider? {
        get { handler.metadataProvider }
        set { handler.metadataProvider = newValue }
    }

    public subscript(metadataKey key: String) -> Logger.MetadataValue? {
        get { handler[metadataKey: key] }
        set { handler[metadataKey: key] = newValue.map(Self.printable) }
    }

    public func log(event: LogEvent) {
        var event = event
        event.message = "\(oneLine("\(event.message)"))"
        event.metadata = event.metadata?.mapValues(Self.printable)
        if let error = event.error {
            event.metadata = (event.metadata ?? [:]).merging(["error": Self.printable(.string("\(error)"))]) { first, _ in first }
            event.error = nil
        }
        handler.log(event: event)
    }

    private static func printable(_ value: Logger.MetadataValue) -> Logger.MetadataValue {
        switch value {
        case .string(let text): .string(oneLine(text))
        case .stringConvertible(let text): .string(oneLine(text.description))
        case .array(let values): .array(values.map(printable))
        case .dictionary(let values): .dictionary(values.mapValues(printable))
        }
    }
}
