#pragma once
#include <zlib.h>

// zlib's own are macros, which Swift does not import.
static inline int czlib_inflate_init(z_stream *stream) { return inflateInit(stream); }

static inline int czlib_deflate_init(z_stream *stream, int window_bits, int memory_level) {
    return deflateInit2(stream, Z_BEST_SPEED, Z_DEFLATED, window_bits, memory_level, Z_DEFAULT_STRATEGY);
}
