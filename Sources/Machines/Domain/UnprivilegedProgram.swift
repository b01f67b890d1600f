import Linux

/// A program that looks at what a stranger has made: it runs as a machine's user, without capabilities, under limits.
struct UnprivilegedProgram: Sendable {
    let path: String
    let user: MachineUser
    /// Beside the user's own.
    var groups: [UInt32] = []
    /// Bytes that it may map. An arena of malloc's for each thread would be more than what it holds.
    var addressSpace: UInt64 = 1 << 30
    /// Seconds of processor time; nil: no limit.
    var processorTime: Int? = 10
    /// That it joins before it does anything else.
    var cgroup: ProcessCgroup?
    let deadline: Duration

    /// Joins the groups before "--", then becomes the rest.
    private static let joining = #"while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@""#

    func spawn(_ arguments: [String]) -> Spawn {
        let membership = groups.isEmpty ? "--clear-groups" : "--groups=\(groups.map(String.init).joined(separator: ","))"
        let confined =
            [
                "--reuid=\(user.uid)", "--regid=\(user.gid)", membership, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all",
                // It does not outlive the daemon, which waits for it.
                "--pdeathsig=KILL", "--",
                "/usr/bin/prlimit", "--as=\(addressSpace)", "--core=0", "--nofile=64",
            ] + (processorTime.map { ["--cpu=\($0)"] } ?? []) + ["--", path]
        let command = ["/usr/bin/setpriv"] + confined + arguments
        let whole = cgroup.map { ["/bin/sh", "-c", Self.joining, "sh"] + $0.directories.map(\.path) + ["--"] + command } ?? command
        return Spawn(
            whole[0], Array(whole.dropFirst()), environment: ["LC_ALL": "C", "MALLOC_ARENA_MAX": "1"], directory: "/",
            deadline: deadline,
            outputLimit: 64 << 10)
    }
}
