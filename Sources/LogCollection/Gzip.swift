import CZlib

/// RFC 1952.
enum Gzip {
    static func compress(_ bytes: [UInt8]) -> [UInt8] {
        // zlib keeps its address.
        let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
        stream.initialize(to: z_stream())
        defer { stream.deallocate() }
        // 16 beyond the greatest window: gzip's header and trailer; zlib's usual memory.
        let result = czlib_deflate_init(stream, 15 + 16, 8)
        precondition(result == Z_OK, "zlib has no memory")
        defer { deflateEnd(stream) }
        var input = bytes
        return input.withUnsafeMutableBufferPointer { input in
            [UInt8](unsafeUninitializedCapacity: Int(deflateBound(stream, UInt(input.count)))) { output, count in
                stream.pointee.next_in = input.baseAddress
                stream.pointee.avail_in = UInt32(input.count)
                stream.pointee.next_out = output.baseAddress
                stream.pointee.avail_out = UInt32(output.count)
                let result = deflate(stream, Z_FINISH)
                precondition(result == Z_STREAM_END, "deflateBound is a bound")
                count = output.count - Int(stream.pointee.avail_out)
            }
        }
    }
}
