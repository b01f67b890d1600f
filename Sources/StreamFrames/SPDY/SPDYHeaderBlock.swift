import CZlib
import NIOCore

/// Names and values of a stream's beginning (draft-mbelshe-httpbis-spdy-00, section 2.6.10).
package enum SPDYHeaderBlock {
    /// Bytes of a block once it is decompressed, and pairs in it. kubectl's have three pairs and 60 bytes.
    package static let maximumSize = 16 << 10
    package static let maximumPairs = 100

    /// - Returns: nil for a block that breaks the draft's rules, which is its stream's fault: the compressor's state is as it should be.
    package static func parse(_ bytes: [UInt8]) -> [String: String]? {
        var rest = ByteBuffer(bytes: bytes)
        guard let count = rest.readInteger(as: UInt32.self), count <= maximumPairs else { return nil }
        var headers: [String: String] = [:]
        for _ in 0..<count {
            guard let name = rest.readString(), let value = rest.readString(), !name.isEmpty,
                !name.utf8.contains(where: { (0x41...0x5A).contains($0) || $0 == 0 }), headers.updateValue(value, forKey: name) == nil
            else { return nil }
        }
        return rest.readableBytes == 0 ? headers : nil
    }

    package static func bytes(of headers: [(name: String, value: String)]) -> [UInt8] {
        var buffer = ByteBuffer()
        buffer.writeInteger(UInt32(headers.count))
        for text in headers.flatMap({ [$0.name, $0.value] }) {
            buffer.writeInteger(UInt32(text.utf8.count))
            buffer.writeString(text)
        }
        return Array(buffer.readableBytesView)
    }
}

extension ByteBuffer {
    fileprivate mutating func readString() -> String? {
        guard let length = readInteger(as: UInt32.self), length <= readableBytes else { return nil }
        return readString(length: Int(length))
    }
}

/// zlib's state of one direction of a connection, which every header block of it goes on from.
package final class HeaderInflater {
    /// zlib keeps its address.
    private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)

    package init() {
        stream.initialize(to: z_stream())
        let result = czlib_inflate_init(stream)
        precondition(result == Z_OK, "zlib has no memory")
    }

    deinit {
        inflateEnd(stream)
        stream.deallocate()
    }

    /// - Throws: for what is not zlib's, and for more than ``SPDYHeaderBlock/maximumSize`` bytes. The connection cannot go on then.
    package func inflate(_ block: ByteBuffer) throws(SPDYConnectionError) -> [UInt8] {
        var input = Array(block.readableBytesView)
        var output = [UInt8](repeating: 0, count: SPDYHeaderBlock.maximumSize + 1)
        let (count, isWhole) = input.withUnsafeMutableBufferPointer { input in
            output.withUnsafeMutableBufferPointer { output in run(input, output) }
        }
        guard isWhole else { throw SPDYConnectionError("header block is not zlib's") }
        guard count <= SPDYHeaderBlock.maximumSize else {
            throw SPDYConnectionError("header block has more than \(SPDYHeaderBlock.maximumSize) bytes when it is decompressed")
        }
        return Array(output.prefix(count))
    }

    private func run(_ input: UnsafeMutableBufferPointer<UInt8>, _ output: UnsafeMutableBufferPointer<UInt8>) -> (Int, Bool) {
        stream.pointee.next_in = input.baseAddress
        stream.pointee.avail_in = UInt32(input.count)
        stream.pointee.next_out = output.baseAddress
        stream.pointee.avail_out = UInt32(output.count)
        var result = CZlib.inflate(stream, Z_SYNC_FLUSH)
        if result == Z_NEED_DICT {
            result = inflateSetDictionary(stream, SPDYDictionary.bytes, UInt32(SPDYDictionary.bytes.count))
            if result == Z_OK { result = CZlib.inflate(stream, Z_SYNC_FLUSH) }
        }
        // Z_BUF_ERROR: there was nothing to do.
        let isWhole = (result == Z_OK || result == Z_BUF_ERROR) && (stream.pointee.avail_in == 0 || stream.pointee.avail_out == 0)
        return (output.count - Int(stream.pointee.avail_out), isWhole)
    }
}

package final class HeaderDeflater {
    private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)

    /// With zlib's least window and memory: 10 KiB instead of 256, for what is a handful of bytes.
    package init() {
        stream.initialize(to: z_stream())
        let result = czlib_deflate_init(stream, 9, 1)
        precondition(result == Z_OK, "zlib has no memory")
        deflateSetDictionary(stream, SPDYDictionary.bytes, UInt32(SPDYDictionary.bytes.count))
    }

    deinit {
        deflateEnd(stream)
        stream.deallocate()
    }

    package func deflate(_ bytes: [UInt8]) -> [UInt8] {
        var input = bytes
        var output = [UInt8](repeating: 0, count: Int(deflateBound(stream, UInt(bytes.count))) + 64)
        let count = input.withUnsafeMutableBufferPointer { input in
            output.withUnsafeMutableBufferPointer { output in
                stream.pointee.next_in = input.baseAddress
                stream.pointee.avail_in = UInt32(input.count)
                stream.pointee.next_out = output.baseAddress
                stream.pointee.avail_out = UInt32(output.count)
                let result = CZlib.deflate(stream, Z_SYNC_FLUSH)
                precondition(result == Z_OK && stream.pointee.avail_in == 0, "deflateBound is a bound")
                return output.count - Int(stream.pointee.avail_out)
            }
        }
        return Array(output.prefix(count))
    }
}
