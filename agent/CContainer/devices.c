// Which devices the processes of a cgroup may use: a program of the kind BPF_CGROUP_DEVICE (cgroup v2 has no file for it).
#include "internal.h"
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    MOST_RULES = 256,
    INSTRUCTIONS_AROUND = 8,
    INSTRUCTIONS_OF_RULE = 8,
    // Registers: the kernel's struct bpf_cgroup_dev_ctx comes in R1.
    ANSWER = BPF_REG_0, CONTEXT = BPF_REG_1, TYPE = BPF_REG_2, ACCESS = BPF_REG_3, MAJOR = BPF_REG_4, MINOR = BPF_REG_5, SCRATCH = BPF_REG_6,
};

static struct bpf_insn load(int to, int offset) {
    return (struct bpf_insn){ .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = to, .src_reg = CONTEXT, .off = offset };
}

static struct bpf_insn compute(int operation, int to, int32_t operand) {
    return (struct bpf_insn){ .code = BPF_ALU | operation | BPF_K, .dst_reg = to, .imm = operand };
}

static struct bpf_insn skip_unless_equal(int number, int32_t operand, int count) {
    return (struct bpf_insn){ .code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = number, .off = count, .imm = operand };
}

static const struct bpf_insn leave = { .code = BPF_JMP | BPF_EXIT };

/// Answers 1 when the rule covers all of the access; always of the same length.
static void add_rule(struct bpf_insn *at, const struct cc_device_rule *rule) {
    const struct bpf_insn nothing = { .code = BPF_JMP | BPF_JA };
    at[0] = skip_unless_equal(TYPE, rule->block ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR, 7);
    at[1] = (struct bpf_insn){ .code = BPF_ALU | BPF_MOV | BPF_X, .dst_reg = SCRATCH, .src_reg = ACCESS };
    at[2] = compute(BPF_AND, SCRATCH, (int32_t)~rule->access);
    at[3] = skip_unless_equal(SCRATCH, 0, 4);
    at[4] = rule->major < 0 ? nothing : skip_unless_equal(MAJOR, rule->major, 3);
    at[5] = rule->minor < 0 ? nothing : skip_unless_equal(MINOR, rule->minor, 2);
    at[6] = compute(BPF_MOV, ANSWER, 1);
    at[7] = leave;
}

int cc_restrict_devices(int cgroup, const struct cc_device_rule *rules, uint32_t count) {
    if (count > MOST_RULES) { errno = E2BIG; return -1; }
    struct bpf_insn program[INSTRUCTIONS_AROUND + MOST_RULES * INSTRUCTIONS_OF_RULE];
    // The lower half of access_type is the type, the upper one the access.
    program[0] = load(TYPE, offsetof(struct bpf_cgroup_dev_ctx, access_type));
    program[1] = (struct bpf_insn){ .code = BPF_ALU | BPF_MOV | BPF_X, .dst_reg = ACCESS, .src_reg = TYPE };
    program[2] = compute(BPF_RSH, ACCESS, 16);
    program[3] = compute(BPF_AND, TYPE, 0xFFFF);
    program[4] = load(MAJOR, offsetof(struct bpf_cgroup_dev_ctx, major));
    program[5] = load(MINOR, offsetof(struct bpf_cgroup_dev_ctx, minor));
    uint32_t used = 6;
    for (uint32_t i = 0; i < count; i++, used += INSTRUCTIONS_OF_RULE) add_rule(&program[used], &rules[i]);
    program[used++] = compute(BPF_MOV, ANSWER, 0);
    program[used++] = leave;

    union bpf_attr loading;
    memset(&loading, 0, sizeof loading);
    loading.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    loading.insns = (uint64_t)(uintptr_t)program;
    loading.insn_cnt = used;
    loading.license = (uint64_t)(uintptr_t)"";
    int loaded = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &loading, sizeof loading);
    if (loaded < 0) return -1;
    union bpf_attr attaching;
    memset(&attaching, 0, sizeof attaching);
    attaching.target_fd = (uint32_t)cgroup;
    attaching.attach_bpf_fd = (uint32_t)loaded;
    attaching.attach_type = BPF_CGROUP_DEVICE;
    attaching.attach_flags = BPF_F_ALLOW_MULTI;  // a cgroup below may only restrict further
    int result = (int)syscall(SYS_bpf, BPF_PROG_ATTACH, &attaching, sizeof attaching);
    int error = errno;
    close(loaded);
    errno = error;
    return result;
}
