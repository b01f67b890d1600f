// The file tree of a container: mounts, devices, links, masked and read-only paths, pivot.
#include "internal.h"
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int open_filesystem(const struct cc_mount *mount) {
    int context = fsopen(mount->filesystem, FSOPEN_CLOEXEC);
    if (context < 0) return -1;
    bool ok = !mount->source || fsconfig(context, FSCONFIG_SET_STRING, "source", mount->source, 0) == 0;
    for (uint32_t i = 0; ok && i < mount->option_count; i++) {
        const struct cc_option *option = &mount->options[i];
        ok = fsconfig(context, option->value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, option->key, option->value, 0) == 0;
        if (!ok) cc_fail(CC_STEP_MOUNT_OPTION, option->key);
    }
    ok = ok && fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0;
    int tree = ok ? fsmount(context, FSMOUNT_CLOEXEC, 0) : -1;
    int error = errno;
    close(context);
    errno = error;
    return tree;
}

static int open_bind(const struct cc_mount *mount) {
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (mount->flags & CC_MOUNT_RECURSIVE ? AT_RECURSIVE : 0);
    return open_tree(AT_FDCWD, mount->source, flags);
}

static void set_attributes(int tree, const struct cc_mount *mount) {
    struct mount_attr attributes = {
        .attr_set = mount->attributes_set,
        .attr_clr = mount->attributes_cleared,
        .propagation = mount->propagation,
    };
    if (!attributes.attr_set && !attributes.attr_clr && !attributes.propagation) return;
    unsigned flags = AT_EMPTY_PATH | (mount->flags & CC_MOUNT_ATTRIBUTES_RECURSIVE ? AT_RECURSIVE : 0);
    if (mount_setattr(tree, "", flags, &attributes, sizeof attributes) < 0) cc_fail(CC_STEP_MOUNT_ATTRIBUTES, mount->target);
}

static void attach(int tree, int target, const char *path) {
    if (move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0) {
        cc_fail(CC_STEP_MOUNT_ATTACH, path);
    }
}

/// Makes a directory of the root if it is missing. Below a read-only root it is a mount of its own, which stays writable.
static void make_own(const struct cc_mount *mount, bool is_mount) {
    int target = cc_resolve(CC_ROOT_FD, mount->target, CC_RESOLVE_CREATE_DIRECTORY);
    if (target < 0) cc_fail(CC_STEP_MOUNT_TARGET, mount->target);
    if (is_mount) {
        int tree = open_tree(target, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
        if (tree < 0) cc_fail(CC_STEP_MOUNT_SOURCE, mount->target);
        set_attributes(tree, mount);
        attach(tree, target, mount->target);
        close(tree);
    }
    close(target);
}

static void make_mount(const struct cc_mount *mount) {
    int tree = mount->filesystem ? open_filesystem(mount) : open_bind(mount);
    if (tree < 0) {
        if ((mount->flags & CC_MOUNT_IF_SUPPORTED) && errno == ENODEV) return;
        if (mount->filesystem) cc_fail(CC_STEP_MOUNT_CREATE, mount->target);
        cc_fail(CC_STEP_MOUNT_SOURCE, mount->source);
    }
    set_attributes(tree, mount);
    struct stat status;
    if (fstat(tree, &status) < 0) cc_fail(CC_STEP_MOUNT_SOURCE, mount->target);
    int flags = S_ISDIR(status.st_mode) ? CC_RESOLVE_CREATE_DIRECTORY : CC_RESOLVE_CREATE_FILE;
    if (mount->flags & CC_MOUNT_TARGET_NO_LINKS) flags |= CC_RESOLVE_NO_LINKS;
    int target = cc_resolve(CC_ROOT_FD, mount->target, flags);
    if (target < 0) cc_fail(CC_STEP_MOUNT_TARGET, mount->target);
    attach(tree, target, mount->target);
    close(target);
    close(tree);
}

/// Opens the directory that is to hold the last component of `path`, which `name` points at afterwards.
static int open_parent(const char *path, const char **name, int step) {
    char parent[4096];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    *name = slash ? slash + 1 : path;
    if (length + 1 > sizeof parent) { errno = ENAMETOOLONG; cc_fail(step, path); }
    memcpy(parent, path, length);
    parent[length] = 0;
    int fd = cc_resolve(CC_ROOT_FD, length ? parent : ".", CC_RESOLVE_CREATE_DIRECTORY);
    if (fd < 0) cc_fail(step, path);
    return fd;
}

static void make_device(const struct cc_device *device) {
    const char *name;
    int directory = open_parent(device->path, &name, CC_STEP_DEVICE);
    dev_t number = makedev(device->major, device->minor);
    if (mknodat(directory, name, device->mode, number) < 0) {
        struct stat status;
        if (errno != EEXIST || fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) < 0) cc_fail(CC_STEP_DEVICE, device->path);
        errno = EEXIST;
        if ((status.st_mode & S_IFMT) != (device->mode & S_IFMT) || status.st_rdev != number) cc_fail(CC_STEP_DEVICE, device->path);
    } else if ((device->uid || device->gid)
               && fchownat(directory, name, device->uid, device->gid, AT_SYMLINK_NOFOLLOW) < 0) {
        cc_fail(CC_STEP_DEVICE, device->path);
    }
    close(directory);
}

static void make_link(const struct cc_link *link) {
    const char *name;
    int directory = open_parent(link->path, &name, CC_STEP_LINK);
    if (symlinkat(link->destination, directory, name) < 0 && errno != EEXIST) cc_fail(CC_STEP_LINK, link->path);
    close(directory);
}

/// Hides `path`: a directory below an empty read-only tmpfs, anything else below /dev/null. Absent paths need no mask.
static void mask(const char *path) {
    int target = cc_resolve(CC_ROOT_FD, path, 0);
    if (target < 0) {
        if (errno == ENOENT || errno == ENOTDIR) return;
        cc_fail(CC_STEP_MASK, path);
    }
    struct stat status;
    if (fstat(target, &status) < 0) cc_fail(CC_STEP_MASK, path);
    struct cc_option options[] = { { "size", "4k" }, { "nr_inodes", "1" } };
    struct cc_mount cover = {
        .target = path, .source = "tmpfs", .filesystem = "tmpfs", .options = options, .option_count = 2,
        .attributes_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
    };
    if (!S_ISDIR(status.st_mode)) cover = (struct cc_mount){ .target = path, .source = "/dev/null", .propagation = MS_PRIVATE };
    int tree = cover.filesystem ? open_filesystem(&cover) : open_bind(&cover);
    if (tree < 0) cc_fail(CC_STEP_MASK, path);
    set_attributes(tree, &cover);
    attach(tree, target, path);
    close(tree);
    close(target);
}

static void make_readonly(const char *path) {
    int target = cc_resolve(CC_ROOT_FD, path, 0);
    if (target < 0) {
        if (errno == ENOENT || errno == ENOTDIR) return;
        cc_fail(CC_STEP_READONLY, path);
    }
    int tree = open_tree(target, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
    if (tree < 0) cc_fail(CC_STEP_READONLY, path);
    struct mount_attr attributes = { .attr_set = MOUNT_ATTR_RDONLY };
    if (mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof attributes) < 0) cc_fail(CC_STEP_READONLY, path);
    attach(tree, target, path);
    close(tree);
    close(target);
}

static void attach_root(const struct cc_root *root) {
    // Slave, not private: a volume mounted with rslave goes on receiving the caller's mounts.
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0) cc_fail(CC_STEP_PROPAGATION, "/");
    struct mount_attr attributes = { .propagation = MS_PRIVATE };
    if (mount_setattr(CC_ROOT_FD, "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0) cc_fail(CC_STEP_ROOT, root->attach_point);
    if (move_mount(CC_ROOT_FD, "", AT_FDCWD, root->attach_point, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
        cc_fail(CC_STEP_ROOT, root->attach_point);
    }
}

static void pivot(void) {
    // The old root ends up on top of the new one and is detached from there (pivot_root(2), NOTES).
    if (fchdir(CC_ROOT_FD) < 0) cc_fail(CC_STEP_PIVOT, "/");
    if (cc_pivot_here() < 0) cc_fail(CC_STEP_PIVOT, "/");
}

void cc_make_root(const struct cc_root *root, const struct cc_process *process) {
    attach_root(root);
    for (uint32_t i = 0; i < root->mount_count; i++) make_mount(&root->mounts[i]);
    for (uint32_t i = 0; i < root->device_count; i++) make_device(&root->devices[i]);
    for (uint32_t i = 0; i < root->link_count; i++) make_link(&root->links[i]);
    for (uint32_t i = 0; i < root->volume_count; i++) {
        if (root->volumes[i].flags & CC_MOUNT_OWN) make_own(&root->volumes[i], root->readonly);
        else make_mount(&root->volumes[i]);
    }
    for (uint32_t i = 0; i < root->readonly_count; i++) make_readonly(root->readonly_paths[i]);
    for (uint32_t i = 0; i < root->masked_count; i++) mask(root->masked_paths[i]);
    pivot();
    cc_enter_directory(process->working_directory);
    if (!root->readonly) return;
    struct mount_attr attributes = { .attr_set = MOUNT_ATTR_RDONLY };
    if (mount_setattr(CC_ROOT_FD, "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0) cc_fail(CC_STEP_READONLY, "/");
}

void cc_enter_directory(const char *path) {
    int fd = cc_resolve(CC_ROOT_FD, path, CC_RESOLVE_CREATE_DIRECTORY);
    if (fd < 0) cc_fail(CC_STEP_WORKING_DIRECTORY, path);
    if (fchdir(fd) < 0) cc_fail(CC_STEP_WORKING_DIRECTORY, path);
    close(fd);
}
