import CGRPC

// Conversions between the core's values and Swift's.

/// One message as bytes: a single copy out of the core's slices.
func bytes(of message: UnsafeMutablePointer<grpc_byte_buffer>) -> [UInt8] {
    let length = grpc_byte_buffer_length(message)
    return [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
        guard let base = buffer.baseAddress else { return }
        count = cgrpc_message_copy(message, base, length)
    }
}

/// One message for the core: a single copy into a slice.
func coreMessage(_ bytes: [UInt8]) -> UnsafeMutablePointer<grpc_byte_buffer>? {
    bytes.withUnsafeBytes { cgrpc_message_create($0.baseAddress, $0.count) }
}

func string(of slice: grpc_slice) -> String {
    withUnsafePointer(to: slice) { slice in
        String(decoding: UnsafeBufferPointer(start: cgrpc_slice_bytes(slice), count: cgrpc_slice_length(slice)), as: UTF8.self)
    }
}

/// Metadata in wire order; values of binary keys as base64.
func metadata(of array: grpc_metadata_array) -> [(String, String)] {
    guard array.count > 0, let entries = array.metadata else { return [] }
    return (0..<array.count).map { index in
        let key = string(of: entries[index].key)
        guard cgrpc_is_binary_header(entries + index) != 0 else { return (key, string(of: entries[index].value)) }
        return withUnsafePointer(to: entries[index].value) { slice in
            (key, Base64.encode(UnsafeBufferPointer(start: cgrpc_slice_bytes(slice), count: cgrpc_slice_length(slice))))
        }
    }
}

/// A core deadline as an instant of Swift's monotonic clock; nil for "never".
func instant(of deadline: gpr_timespec) -> ContinuousClock.Instant? {
    guard gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) != 0 else { return nil }
    let remaining = gpr_time_sub(deadline, gpr_now(deadline.clock_type))
    return .now + .seconds(remaining.tv_sec) + .nanoseconds(Int64(remaining.tv_nsec))
}

/// The core's deadline `timeout` from now; nil means never.
func coreDeadline(after timeout: Duration?) -> gpr_timespec {
    guard let timeout else { return gpr_inf_future(GPR_CLOCK_MONOTONIC) }
    let (seconds, attoseconds) = timeout.components
    // A century is for ever, and keeps the sum inside the clock's range.
    guard seconds < 3_153_600_000 else { return gpr_inf_future(GPR_CLOCK_MONOTONIC) }
    let span = gpr_timespec(tv_sec: max(seconds, 0), tv_nsec: Int32(max(attoseconds, 0) / 1_000_000_000), clock_type: GPR_TIMESPAN)
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), span)
}

/// What a server and a client on one machine have in common.
///
/// - Parameter maximumMessageBytes: of one message, in either direction.
func localArguments(maximumMessageBytes: Int) -> [String: Int] {
    [
        "grpc.max_receive_message_length": maximumMessageBytes,
        "grpc.max_send_message_length": maximumMessageBytes,
        // A large window at once instead of probing for it with pings.
        "grpc.http2.bdp_probe": 0,
        "grpc.http2.lookahead_bytes": 1 << 20,
        "grpc.http2.max_frame_size": 1 << 17,
        "grpc.max_metadata_size": 64 * 1024,
        "grpc.enable_channelz": 0,
        "grpc.max_channel_trace_event_memory_per_node": 0,
    ]
}

/// Channel arguments (https://grpc.github.io/grpc/core/group__grpc__arg__keys.html) for as long as `body` runs.
func withArguments<Result>(
    integers: [String: Int], strings: [String: String] = [:], _ body: (UnsafePointer<grpc_channel_args>) -> Result
) -> Result {
    guard let arguments = cgrpc_arguments_create() else { fatalError("gRPC: out of memory") }
    defer { cgrpc_arguments_destroy(arguments) }
    for (key, value) in integers { cgrpc_arguments_set_integer(arguments, key, Int32(clamping: value)) }
    for (key, value) in strings { cgrpc_arguments_set_string(arguments, key, value) }
    return withUnsafePointer(to: &arguments.pointee.list, body)
}
