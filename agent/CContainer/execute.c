// The last step of a child: find the command and become it.
#include "internal.h"
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/// Executes one candidate. Returns when it does not exist; any other failure of an existing file ends the child.
static void try_path(const struct cc_process *process, const char *path, bool *denied, bool *filtered) {
    // Not before the first candidate: a profile need not allow what the search does.
    if (!*filtered) cc_load_filter(process->filter);
    *filtered = true;
    execve(path, (char *const *)process->arguments, (char *const *)process->environment);
    int error = errno;
    struct stat status;
    bool exists = stat(path, &status) == 0;
    errno = error;
    if (error == ENOENT && exists) cc_fail(CC_STEP_INTERPRETER, path);
    if (error == ENOENT || error == ENOTDIR) return;
    if (error != EACCES) cc_fail(CC_STEP_EXEC, path);
    // A directory on the way of a search is no command; one that was named is a mistake to report.
    *denied = *denied || !exists || !S_ISDIR(status.st_mode) || path == process->arguments[0];
}

static void search(const struct cc_process *process, bool *denied, bool *filtered) {
    const char *name = process->arguments[0];
    size_t length = strlen(name);
    for (const char *entry = process->search_path; ; entry++) {
        size_t size = strcspn(entry, ":");
        char path[PATH_MAX];
        const char *directory = size ? entry : ".";  // an empty entry is the working directory (environ(7))
        size_t used = size ? size : 1;
        if (used + length + 2 <= sizeof path) {
            memcpy(path, directory, used);
            path[used] = '/';
            memcpy(path + used + 1, name, length + 1);
            // Looked at first: execve copies all arguments before it finds that there is no such file.
            struct stat status;
            if (stat(path, &status) == 0 || (errno != ENOENT && errno != ENOTDIR)) try_path(process, path, denied, filtered);
        }
        entry += size;
        if (*entry == 0) return;
    }
}

void cc_execute(const struct cc_process *process) {
    const char *name = process->arguments[0];
    bool denied = false, filtered = false;
    if (strchr(name, '/')) try_path(process, name, &denied, &filtered); else if (*name) search(process, &denied, &filtered);
    if (denied) {
        errno = EACCES;
        cc_fail(CC_STEP_EXEC, name);
    }
    errno = ENOENT;
    cc_fail(CC_STEP_COMMAND_NOT_FOUND, name);
}
