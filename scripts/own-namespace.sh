# shellcheck shell=bash
# Sourced: gives a script a network namespace of its own and takes away at its end whatever was left in it.
# nsenter and not `ip netns exec`, which would mount a fresh /sys and hide the control groups.

# own_namespace NAME: one run at a time has the network namespace NAME, the directories /run/NAME and /tmp/NAME and the control
# groups NAME. What a killed run has left there goes first.
own_namespace() {
    namespace=$1
    exec 9>"/run/$namespace.lock"
    flock --nonblock 9 || { echo "$0: another run is under way" >&2; exit 1; }
    clear_namespace
    trap clear_namespace EXIT
    # Fails when another user has been quicker: what is made in there afterwards is root's.
    mkdir --mode=0711 "/run/$namespace" "/tmp/$namespace"
    ip netns add "$namespace"
    ip -n "$namespace" link set lo up
}

# in_namespace COMMAND...: without the lock, which must not live on in a process that outlives the script.
in_namespace() {
    nsenter --net="/run/netns/$namespace" "$@" 9>&-
}

clear_namespace() {
    ip netns pids "$namespace" 2>/dev/null | xargs --no-run-if-empty kill -KILL 2>/dev/null || true
    # Machines and what serves them are in other network namespaces; their command lines name files of the run, as those of bystanders
    # (an editor, a pager) may.
    local pid program
    for pid in $(grep --files-with-matches --text "/\(run\|tmp\)/$namespace/" /proc/[0-9]*/cmdline 2>/dev/null | cut -d / -f 3); do
        program=$(readlink "/proc/$pid/exe") || continue
        case ${program##*/} in
        qemu-system-* | swiftletd* | swiftlet-vsockd* | swiftlet-streamd* | hostile-vsockd* | virtiofsd* | conmon | memfd:swiftlet-pause*) kill -KILL "$pid" 2>/dev/null || true ;;
        esac
    done
    awk -v name="$namespace" '$2 ~ "^/(run|tmp)/" name "/" { print $2 }' /proc/self/mounts | sort -r | xargs --no-run-if-empty umount --lazy
    rm -rf --one-file-system "/run/$namespace" "/tmp/$namespace"
    find "/sys/fs/cgroup/$namespace" /sys/fs/cgroup/*/"$namespace" -depth -type d -exec rmdir {} + 2>/dev/null || true
    ip netns delete "$namespace" 2>/dev/null || true
}
