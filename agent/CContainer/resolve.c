// Paths of a container, below its root whatever links its image holds.
#include "internal.h"
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_LINKS = 40, MAX_RETRIES = 128 };

_Thread_local uint32_t cc_owner_uid, cc_owner_gid;

static int open_beneath(int root, const char *path, uint64_t flags, uint64_t extra) {
    struct open_how how = {
        .flags = flags | O_CLOEXEC,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | extra,
    };
    // EAGAIN: something was renamed during the walk (openat2(2)).
    for (int attempt = 0; attempt < MAX_RETRIES; attempt++) {
        int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) return fd;
    }
    return -1;
}

int cc_find_in_root(int root, const char *path) { return open_beneath(root, path, O_PATH, 0); }

bool cc_copy(char *to, size_t size, const char *text) {
    size_t length = strnlen(text, size);
    bool fits = length < size;
    if (!fits) length = size - 1;
    memcpy(to, text, length);
    to[length] = 0;
    return fits;
}

/// A walk from the root, one component at a time; `done` holds no link and no "..".
struct walk {
    int root;
    int directory;
    char done[PATH_MAX];
    char rest[PATH_MAX];
};

static bool enter_done(struct walk *walk) {
    if (walk->directory >= 0) close(walk->directory);
    const char *path = walk->done[0] ? walk->done : ".";
    walk->directory = open_beneath(walk->root, path, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
    return walk->directory >= 0;
}

static bool go_up(struct walk *walk) {
    char *slash = strrchr(walk->done, '/');
    if (slash) *slash = 0; else walk->done[0] = 0;
    return enter_done(walk);
}

static bool go_down(struct walk *walk, const char *name, int fd) {
    size_t used = strlen(walk->done), length = strlen(name);
    if (used + length + 2 > sizeof walk->done) { errno = ENAMETOOLONG; return false; }
    if (used) walk->done[used++] = '/';
    memcpy(walk->done + used, name, length + 1);
    close(walk->directory);
    walk->directory = fd;
    return true;
}

/// Puts the target of the link `fd` in front of what is left to walk.
static bool follow(struct walk *walk, int fd) {
    char target[PATH_MAX];
    ssize_t length = readlinkat(fd, "", target, sizeof target - 1);
    if (length < 0) return false;
    target[length] = 0;
    size_t rest = strlen(walk->rest);
    if ((size_t)length + rest + 2 > sizeof walk->rest) { errno = ENAMETOOLONG; return false; }
    memmove(walk->rest + length + 1, walk->rest, rest + 1);
    memcpy(walk->rest, target, (size_t)length);
    walk->rest[length] = '/';
    if (target[0] != '/') return true;
    walk->done[0] = 0;
    return enter_done(walk);
}

/// Takes the first component off `rest`; false when nothing is left.
static bool next_name(struct walk *walk, char name[NAME_MAX + 1], bool *last) {
    char *start = walk->rest + strspn(walk->rest, "/");
    size_t length = strcspn(start, "/");
    if (length == 0) return false;
    if (length > NAME_MAX) length = NAME_MAX;  // then the kernel answers for a name that is cut: none of ours is
    memcpy(name, start, length);
    name[length] = 0;
    char *after = start + strcspn(start, "/");
    after += strspn(after, "/");
    *last = *after == 0;
    memmove(walk->rest, after, strlen(after) + 1);
    return true;
}

static int create(int directory, const char *name, bool file) {
    if (!file) return mkdirat(directory, name, 0755);
    return openat(directory, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
}

static int create_as_owner(int directory, const char *name, bool file) {
    int made = create(directory, name, file);
    if (made >= 0 || errno != EOVERFLOW || (!cc_owner_uid && !cc_owner_gid)) return made;
    // A mount with mapped ids takes nothing from an id that it does not map (mount_setattr(2)).
    syscall(SYS_setfsgid, cc_owner_gid);
    syscall(SYS_setfsuid, cc_owner_uid);
    made = create(directory, name, file);
    int error = errno;
    syscall(SYS_setfsuid, 0);
    syscall(SYS_setfsgid, 0);
    errno = error;
    return made;
}

static int open_or_make(int directory, const char *name, bool file) {
    for (int attempt = 0; attempt < MAX_RETRIES; attempt++) {
        int fd = openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 || errno != ENOENT) return fd;
        int made = create_as_owner(directory, name, file);
        if (made < 0 && errno != EEXIST) return -1;
        if (file && made >= 0) close(made);
        bool owned = made >= 0 && (cc_owner_uid || cc_owner_gid);
        if (owned && fchownat(directory, name, cc_owner_uid, cc_owner_gid, AT_SYMLINK_NOFOLLOW) < 0) return -1;
    }
    return -1;
}

static int walk_and_make(struct walk *walk, int flags) {
    char name[NAME_MAX + 1];
    bool last = false;
    int links = 0;
    if (!enter_done(walk)) return -1;
    while (next_name(walk, name, &last)) {
        if (strcmp(name, ".") == 0) continue;
        if (strcmp(name, "..") == 0) {
            if (!go_up(walk)) return -1;
            continue;
        }
        int fd = open_or_make(walk->directory, name, last && (flags & CC_RESOLVE_CREATE_FILE));
        if (fd < 0) return -1;
        struct stat status;
        if (fstat(fd, &status) < 0) { close(fd); return -1; }
        if (S_ISLNK(status.st_mode)) {
            bool refused = (flags & CC_RESOLVE_NO_LINKS) || ++links > MAX_LINKS;
            bool followed = !refused && follow(walk, fd);
            close(fd);
            if (refused) errno = ELOOP;
            if (!followed) return -1;
            continue;
        }
        if (last) return fd;
        if (!S_ISDIR(status.st_mode)) { close(fd); errno = ENOTDIR; return -1; }
        if (!go_down(walk, name, fd)) { close(fd); return -1; }
    }
    // The path ended in "." or "..", or in a link to "/": the directory reached is the answer.
    int fd = walk->directory;
    walk->directory = -1;
    return fd;
}

int cc_resolve(int root, const char *path, int flags) {
    uint64_t extra = flags & CC_RESOLVE_NO_LINKS ? RESOLVE_NO_SYMLINKS : 0;
    int fd = open_beneath(root, path, O_PATH, extra);
    if (fd >= 0 || errno != ENOENT || !(flags & (CC_RESOLVE_CREATE_DIRECTORY | CC_RESOLVE_CREATE_FILE))) return fd;
    struct walk walk = { .root = root, .directory = -1 };
    if (!cc_copy(walk.rest, sizeof walk.rest, path)) { errno = ENAMETOOLONG; return -1; }
    fd = walk_and_make(&walk, flags);
    int error = errno;
    if (walk.directory >= 0) close(walk.directory);
    errno = error;
    return fd;
}
