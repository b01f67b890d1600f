// Constructors for what Swift cannot build of the gRPC C core: unions of grpc_op, slice macros,
// channel arguments. Every out-pointer of a batch lives in a struct on the heap, because the core
// writes to it until the batch has completed.
#pragma once
// First, because gRPC's headers define _GNU_SOURCE: libc's types must look as they do to Swift's Glibc.
#include <stdlib.h>
#include <string.h>

#include <pthread.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>

// Slices and messages

static inline const uint8_t *cgrpc_slice_bytes(const grpc_slice *slice) { return GRPC_SLICE_START_PTR(*slice); }
static inline size_t cgrpc_slice_length(const grpc_slice *slice) { return GRPC_SLICE_LENGTH(*slice); }

static inline grpc_byte_buffer *cgrpc_message_create(const void *bytes, size_t count) {
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)bytes, count);
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return message;
}

// Copies at most `capacity` bytes of the message to `out` and returns how many.
static inline size_t cgrpc_message_copy(grpc_byte_buffer *message, uint8_t *out, size_t capacity) {
    grpc_byte_buffer_reader reader;
    grpc_slice *slice;
    size_t filled = 0;
    if (!grpc_byte_buffer_reader_init(&reader, message)) return 0;
    while (filled < capacity && grpc_byte_buffer_reader_peek(&reader, &slice)) {
        size_t length = GRPC_SLICE_LENGTH(*slice);
        if (length > capacity - filled) length = capacity - filled;
        memcpy(out + filled, GRPC_SLICE_START_PTR(*slice), length);
        filled += length;
    }
    grpc_byte_buffer_reader_destroy(&reader);
    return filled;
}

// Channel arguments

typedef struct cgrpc_arguments {
    grpc_arg args[24];
    grpc_channel_args list;
} cgrpc_arguments;

static inline cgrpc_arguments *cgrpc_arguments_create(void) {
    cgrpc_arguments *arguments = (cgrpc_arguments *)calloc(1, sizeof(cgrpc_arguments));
    if (!arguments) abort();
    arguments->list.args = arguments->args;
    return arguments;
}

static inline grpc_arg *cgrpc_arguments_next(cgrpc_arguments *arguments, const char *key) {
    if (arguments->list.num_args == sizeof(arguments->args) / sizeof(arguments->args[0])) abort();
    grpc_arg *argument = &arguments->args[arguments->list.num_args++];
    argument->key = strdup(key);
    return argument;
}

static inline void cgrpc_arguments_set_integer(cgrpc_arguments *arguments, const char *key, int value) {
    grpc_arg *argument = cgrpc_arguments_next(arguments, key);
    argument->type = GRPC_ARG_INTEGER;
    argument->value.integer = value;
}

static inline void cgrpc_arguments_set_string(cgrpc_arguments *arguments, const char *key, const char *value) {
    grpc_arg *argument = cgrpc_arguments_next(arguments, key);
    argument->type = GRPC_ARG_STRING;
    argument->value.string = strdup(value);
}

static inline void cgrpc_arguments_destroy(cgrpc_arguments *arguments) {
    for (size_t i = 0; i < arguments->list.num_args; i++) {
        free(arguments->args[i].key);
        if (arguments->args[i].type == GRPC_ARG_STRING) free(arguments->args[i].value.string);
    }
    free(arguments);
}

// The server's side of one call

typedef struct cgrpc_server_call {
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    grpc_byte_buffer *request;
    grpc_byte_buffer *response;
    int cancelled;
} cgrpc_server_call;

static inline cgrpc_server_call *cgrpc_server_call_create(void) {
    cgrpc_server_call *state = (cgrpc_server_call *)calloc(1, sizeof(cgrpc_server_call));
    if (!state) abort();
    grpc_call_details_init(&state->details);
    grpc_metadata_array_init(&state->metadata);
    return state;
}

static inline void cgrpc_server_call_destroy(cgrpc_server_call *state) {
    if (state->request) grpc_byte_buffer_destroy(state->request);
    if (state->response) grpc_byte_buffer_destroy(state->response);
    // The metadata's slices belong to the call: the array goes first.
    grpc_metadata_array_destroy(&state->metadata);
    grpc_call_details_destroy(&state->details);
    if (state->call) grpc_call_unref(state->call);
    free(state);
}

static inline int cgrpc_server_call_request(cgrpc_server_call *state, grpc_server *server, grpc_completion_queue *queue, void *tag) {
    return (int)grpc_server_request_call(server, &state->call, &state->details, &state->metadata, queue, queue, tag);
}

static inline int cgrpc_server_call_await_close(cgrpc_server_call *state, void *tag) {
    grpc_op op;
    memset(&op, 0, sizeof(op));
    op.op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    op.data.recv_close_on_server.cancelled = &state->cancelled;
    return (int)grpc_call_start_batch(state->call, &op, 1, tag, NULL);
}

static inline int cgrpc_server_call_receive(cgrpc_server_call *state, void *tag) {
    grpc_op op;
    memset(&op, 0, sizeof(op));
    op.op = GRPC_OP_RECV_MESSAGE;
    op.data.recv_message.recv_message = &state->request;
    return (int)grpc_call_start_batch(state->call, &op, 1, tag, NULL);
}

// What one batch sends. `message` becomes the call's until the batch has completed.
enum {
    CGRPC_SEND_HEADERS = 1,
    CGRPC_SEND_MESSAGE = 2,
    CGRPC_SEND_STATUS = 4,
};

static inline int cgrpc_server_call_send(
    cgrpc_server_call *state, int what, grpc_byte_buffer *message, int code, const char *text, size_t text_length, void *tag) {
    grpc_op ops[3];
    size_t count = 0;
    grpc_slice details = grpc_empty_slice();
    memset(ops, 0, sizeof(ops));
    if (what & CGRPC_SEND_HEADERS) ops[count++].op = GRPC_OP_SEND_INITIAL_METADATA;
    if (what & CGRPC_SEND_MESSAGE) {
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count++].data.send_message.send_message = message;
        state->response = message;
    }
    if (what & CGRPC_SEND_STATUS) {
        ops[count].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
        ops[count].data.send_status_from_server.status = (grpc_status_code)code;
        if (text_length > 0) {
            details = grpc_slice_from_copied_buffer(text, text_length);
            ops[count].data.send_status_from_server.status_details = &details;
        }
        count++;
    }
    int result = (int)grpc_call_start_batch(state->call, ops, count, tag, NULL);
    grpc_slice_unref(details);
    return result;
}

static inline void cgrpc_server_call_release_response(cgrpc_server_call *state) {
    if (state->response) grpc_byte_buffer_destroy(state->response);
    state->response = NULL;
}

static inline void cgrpc_server_call_release_request(cgrpc_server_call *state) {
    if (state->request) grpc_byte_buffer_destroy(state->request);
    state->request = NULL;
}

// The client's side of one call

typedef struct cgrpc_client_call {
    grpc_call *call;
    grpc_metadata *sent_metadata;
    size_t sent_metadata_count;
    grpc_metadata_array headers;
    grpc_metadata_array trailers;
    grpc_byte_buffer *request;
    grpc_byte_buffer *response;
    grpc_status_code status;
    grpc_slice details;
} cgrpc_client_call;

static inline cgrpc_client_call *cgrpc_client_call_create(
    grpc_channel *channel, grpc_completion_queue *queue, const char *path, size_t path_length, gpr_timespec deadline) {
    cgrpc_client_call *state = (cgrpc_client_call *)calloc(1, sizeof(cgrpc_client_call));
    if (!state) abort();
    grpc_metadata_array_init(&state->headers);
    grpc_metadata_array_init(&state->trailers);
    state->details = grpc_empty_slice();
    grpc_slice method = grpc_slice_from_copied_buffer(path, path_length);
    state->call = grpc_channel_create_call(channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue, method, NULL, deadline, NULL);
    grpc_slice_unref(method);
    return state;
}

static inline void cgrpc_client_call_destroy(cgrpc_client_call *state) {
    if (state->request) grpc_byte_buffer_destroy(state->request);
    if (state->response) grpc_byte_buffer_destroy(state->response);
    grpc_metadata_array_destroy(&state->headers);
    grpc_metadata_array_destroy(&state->trailers);
    grpc_slice_unref(state->details);
    if (state->call) grpc_call_unref(state->call);
    for (size_t i = 0; i < state->sent_metadata_count; i++) {
        grpc_slice_unref(state->sent_metadata[i].key);
        grpc_slice_unref(state->sent_metadata[i].value);
    }
    free(state->sent_metadata);
    free(state);
}

// Returns 0 when the key or the value cannot be sent.
static inline int cgrpc_client_call_add_metadata(
    cgrpc_client_call *state, const char *key, size_t key_length, const void *value, size_t value_length) {
    grpc_metadata entry;
    memset(&entry, 0, sizeof(entry));
    entry.key = grpc_slice_from_copied_buffer(key, key_length);
    entry.value = grpc_slice_from_copied_buffer((const char *)value, value_length);
    grpc_metadata *grown = NULL;
    if (grpc_header_key_is_legal(entry.key) && (grpc_is_binary_header(entry.key) || grpc_header_nonbin_value_is_legal(entry.value))) {
        grown = (grpc_metadata *)realloc(state->sent_metadata, (state->sent_metadata_count + 1) * sizeof(grpc_metadata));
    }
    if (!grown) {
        grpc_slice_unref(entry.key);
        grpc_slice_unref(entry.value);
        return 0;
    }
    state->sent_metadata = grown;
    state->sent_metadata[state->sent_metadata_count++] = entry;
    return 1;
}

static inline size_t cgrpc_client_call_request_ops(cgrpc_client_call *state, grpc_op *ops, grpc_byte_buffer *request) {
    state->request = request;
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[0].data.send_initial_metadata.count = state->sent_metadata_count;
    ops[0].data.send_initial_metadata.metadata = state->sent_metadata;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = request;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &state->headers;
    return 4;
}

static inline void cgrpc_client_call_status_op(cgrpc_client_call *state, grpc_op *op) {
    op->op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    op->data.recv_status_on_client.trailing_metadata = &state->trailers;
    op->data.recv_status_on_client.status = &state->status;
    op->data.recv_status_on_client.status_details = &state->details;
}

// The whole of a unary call in one batch.
static inline int cgrpc_client_call_unary(cgrpc_client_call *state, grpc_byte_buffer *request, void *tag) {
    grpc_op ops[6];
    memset(ops, 0, sizeof(ops));
    size_t count = cgrpc_client_call_request_ops(state, ops, request);
    ops[count].op = GRPC_OP_RECV_MESSAGE;
    ops[count++].data.recv_message.recv_message = &state->response;
    cgrpc_client_call_status_op(state, &ops[count++]);
    return (int)grpc_call_start_batch(state->call, ops, count, tag, NULL);
}

// Sends the only request of a streaming call.
static inline int cgrpc_client_call_start(cgrpc_client_call *state, grpc_byte_buffer *request, void *tag) {
    grpc_op ops[4];
    memset(ops, 0, sizeof(ops));
    size_t count = cgrpc_client_call_request_ops(state, ops, request);
    return (int)grpc_call_start_batch(state->call, ops, count, tag, NULL);
}

static inline int cgrpc_client_call_await_status(cgrpc_client_call *state, void *tag) {
    grpc_op op;
    memset(&op, 0, sizeof(op));
    cgrpc_client_call_status_op(state, &op);
    return (int)grpc_call_start_batch(state->call, &op, 1, tag, NULL);
}

static inline int cgrpc_client_call_receive(cgrpc_client_call *state, void *tag) {
    grpc_op op;
    memset(&op, 0, sizeof(op));
    op.op = GRPC_OP_RECV_MESSAGE;
    op.data.recv_message.recv_message = &state->response;
    return (int)grpc_call_start_batch(state->call, &op, 1, tag, NULL);
}

static inline void cgrpc_client_call_release_response(cgrpc_client_call *state) {
    if (state->response) grpc_byte_buffer_destroy(state->response);
    state->response = NULL;
}

// Thread names

int pthread_setname_np(pthread_t thread, const char *name);
static inline void cgrpc_name_thread(pthread_t thread, const char *name) { pthread_setname_np(thread, name); }

// Metadata

static inline int cgrpc_is_binary_header(const grpc_metadata *entry) { return grpc_is_binary_header(entry->key); }
