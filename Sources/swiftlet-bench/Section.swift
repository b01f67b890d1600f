import ArgumentParser

/// A part of the run that can be measured alone.
enum Section: String, CaseIterable, ExpressibleByArgument {
    /// Calls, and the cold start beside raw QEMU's.
    case pods
    case memory
    case lists
    /// Pods to their first log lines, cold and from a pool of machines.
    case pool
    /// Containers that write as fast as they can.
    case logs
    /// Exec, attach and port-forward.
    case sessions
    /// Pods that are virtual machines.
    case vm
    /// Pods that OCI runtimes run on the node.
    case host
}
