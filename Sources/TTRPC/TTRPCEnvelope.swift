import Errors

/// ttrpc's Request message: which method, and its encoded argument.
public struct TTRPCRequest: Sendable, Equatable {
    public var service: String
    public var method: String
    public var payload: [UInt8]
    /// Nanoseconds that the caller waits; 0 means no limit.
    public var timeout: UInt64

    public init(service: String, method: String, payload: [UInt8], timeout: UInt64 = 0) {
        self.service = service
        self.method = method
        self.payload = payload
        self.timeout = timeout
    }

    public var encoded: [UInt8] {
        var writer = WireFieldWriter()
        writer.reserve(payload.count + service.utf8.count + method.utf8.count + 32)
        writer.write(1, bytes: service.utf8)
        writer.write(2, bytes: method.utf8)
        writer.write(3, bytes: payload)
        writer.write(4, varint: timeout)
        return writer.bytes
    }

    /// - Throws: `.invalidArgument` when the bytes are no such message. Metadata is skipped.
    public init(encoded: [UInt8]) throws(SwiftletError) {
        self.init(service: "", method: "", payload: [])
        var reader = WireFieldReader(encoded[...])
        while let field = reader.next() {
            switch field {
            case .success((1, .bytes(let bytes))): service = String(decoding: bytes, as: UTF8.self)
            case .success((2, .bytes(let bytes))): method = String(decoding: bytes, as: UTF8.self)
            case .success((3, .bytes(let bytes))): payload = Array(bytes)
            case .success((4, .varint(let value))): timeout = value
            case .success: continue
            case .failure(let error): throw SwiftletError(.invalidArgument, "malformed ttrpc request", cause: error)
            }
        }
    }
}

/// ttrpc's Response message: a google.rpc.Status, or the encoded result.
public struct TTRPCResponse: Sendable {
    public var result: Result<[UInt8], SwiftletError>

    public init(_ result: Result<[UInt8], SwiftletError>) { self.result = result }

    /// Longer messages of a status are cut: they reach logs and clients.
    public static let maximumMessage = 4096

    public var encoded: [UInt8] {
        var writer = WireFieldWriter()
        switch result {
        case .success(let payload):
            writer.reserve(payload.count + 8)
            writer.write(2, bytes: payload)
        case .failure(let error):
            var status = WireFieldWriter()
            status.write(1, varint: UInt64(error.code.number))
            status.write(2, bytes: error.description.utf8.prefix(Self.maximumMessage))
            writer.write(1, bytes: status.bytes)
        }
        return writer.bytes
    }

    /// - Throws: `.dataLoss` when the bytes are no such message.
    public init(encoded: [UInt8]) throws(SwiftletError) {
        var payload: [UInt8] = []
        var failure: SwiftletError?
        do {
            var reader = WireFieldReader(encoded[...])
            while let field = reader.next() {
                switch try field.get() {
                case (1, .bytes(let status)): failure = try Self.status(status)
                case (2, .bytes(let bytes)): payload = Array(bytes)
                default: continue
                }
            }
        } catch {
            throw SwiftletError(.dataLoss, "malformed ttrpc response", cause: error)
        }
        result = failure.map { .failure($0) } ?? .success(payload)
    }

    /// nil for code 0, which is success.
    private static func status(_ bytes: ArraySlice<UInt8>) throws -> SwiftletError? {
        var code: UInt64 = 0
        var message = ""
        var reader = WireFieldReader(bytes)
        while let field = reader.next() {
            switch try field.get() {
            case (1, .varint(let value)): code = value
            case (2, .bytes(let text)): message = String(decoding: text.prefix(maximumMessage), as: UTF8.self)
            default: continue
            }
        }
        return code == 0 ? nil : SwiftletError(SwiftletError.Code(number: code), printable(message, limit: maximumMessage))
    }
}

extension SwiftletError.Code {
    /// gRPC's numbers (grpc.io, "Status codes").
    private static let numbered: [SwiftletError.Code] = [
        .cancelled, .unknown, .invalidArgument, .deadlineExceeded, .notFound, .alreadyExists, .permissionDenied, .resourceExhausted,
        .failedPrecondition, .aborted, .outOfRange, .unimplemented, .internal, .unavailable, .dataLoss, .unauthenticated,
    ]

    var number: Int { (Self.numbered.firstIndex(of: self) ?? 1) + 1 }

    init(number: UInt64) {
        self = number >= 1 && number <= UInt64(Self.numbered.count) ? Self.numbered[Int(number) - 1] : .unknown
    }
}
