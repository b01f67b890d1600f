import CContainer
import Errors
import Glibc
import Linux

/// Calls the C code and turns what its child reports into an error that names the step and the path.
enum Spawn {
    /// Milliseconds for everything between clone and exec, mounts included; for what follows exec again.
    static let timeout: Int32 = 60_000

    /// Everything that the C code reads of a process to be cloned, and what keeps it valid.
    struct Plan {
        var process: cc_process
        var memory: CMemory
        /// nil for the guest's own.
        var userNamespace: UserNamespace?
        var cgroup: ContainerCgroup

        fileprivate func flat() -> cc_spawn {
            cc_spawn(
                process: memory.value(process), root: nil, join_pidfd: -1, pid_namespace_pidfd: -1, ipc_namespace_pidfd: -1,
                new_ipc_namespace: false, user_namespace: userNamespace?.file.number ?? -1, owner_uid: userNamespace?.root.uid ?? 0,
                owner_gid: userNamespace?.root.gid ?? 0, cgroup: cgroup.directory.number, timeout_ms: timeout, gate: -1)
        }
    }

    /// A first process's root and the namespaces it has in common with others.
    struct Place {
        var root: cc_root
        /// A process whose PID namespace is joined; nil: a new one.
        var pidNamespace: OwnedDescriptor?
        /// A process whose IPC namespace is joined; nil: the pod's, or a new one.
        var ipcNamespace: OwnedDescriptor?
        var newIPCNamespace: Bool
    }

    /// Runs a further process, in all namespaces of the given one.
    static func run(
        _ plan: Plan, in process: OwnedDescriptor, of container: String
    ) throws(SwiftletError) -> (pid: pid_t, process: OwnedDescriptor) {
        var spawn = plan.flat()
        spawn.join_pidfd = process.number
        spawn.pid_namespace_pidfd = process.number
        var pid: pid_t = 0
        var pidfd: Int32 = -1
        var failure = cc_failure()
        let result = withExtendedLifetime((plan, process)) { cc_spawn(&spawn, &pid, &pidfd, &failure) }
        guard result == 0 else { throw error(failure, container) }
        return (pid, OwnedDescriptor(pidfd))
    }

    /// Clones a first process, which waits at its gate.
    static func create(_ plan: Plan, at place: Place, of container: String) throws(SwiftletError) -> cc_held {
        var spawn = plan.flat()
        spawn.root = plan.memory.value(place.root)
        spawn.pid_namespace_pidfd = place.pidNamespace?.number ?? -1
        spawn.ipc_namespace_pidfd = place.ipcNamespace?.number ?? -1
        spawn.new_ipc_namespace = place.newIPCNamespace
        var held = cc_held()
        var failure = cc_failure()
        let result = withExtendedLifetime((plan, place)) { cc_create(&spawn, &held, &failure) }
        guard result == 0 else { throw error(failure, container) }
        return held
    }

    static func error(_ failure: cc_failure, _ container: String) -> SwiftletError {
        let detail = withUnsafeBytes(of: failure.detail) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        let (step, code) = describe(cc_step(UInt32(failure.step)), errno: failure.error, detail: printable(detail))
        let cause = SystemError(failure.error)
        return SwiftletError(code ?? cause.code, "container \(container): \(step)", cause: cause)
    }

    /// - Returns: the step in words, and the code where it is not the errno's own.
    private static func describe(_ step: cc_step, errno number: Int32, detail: String) -> (String, SwiftletError.Code?) {
        switch step {
        case CC_STEP_JOIN_PID_NAMESPACE, CC_STEP_JOIN_NAMESPACES:
            return ("join the namespaces: the container is not running", number == ESRCH ? .failedPrecondition : nil)
        case CC_STEP_CLONE:
            // ENOMEM: PID 1 of the namespace has ended. ENODEV: the cgroup has been removed (clone(2)).
            if number == ENOMEM || number == ENODEV { return ("clone: its PID namespace or cgroup is gone", .failedPrecondition) }
            return ("clone", number == EAGAIN ? .resourceExhausted : nil)
        case CC_STEP_TIMEOUT: return ("no answer within \(timeout / 1000) s between clone and exec", .deadlineExceeded)
        case CC_STEP_KILLED: return ("killed before exec, or not there within \(timeout / 1000) s", .aborted)
        case CC_STEP_HOLD: return ("hold the first process until its start", nil)
        case CC_STEP_SESSION: return ("make a session", nil)
        case CC_STEP_STDIO: return ("arrange standard input and output", nil)
        case CC_STEP_TERMINAL: return ("take the terminal", nil)
        case CC_STEP_OOM_SCORE: return ("set \(detail)", nil)
        case CC_STEP_PROPAGATION, CC_STEP_ROOT: return ("attach the root at \(detail)", nil)
        case CC_STEP_CGROUP_NAMESPACE: return ("make a cgroup namespace", nil)
        case CC_STEP_MOUNT_SOURCE: return ("open mount source \(detail)", number == ENOENT ? .failedPrecondition : nil)
        case CC_STEP_MOUNT_CREATE: return ("make the filesystem of mount \(detail)", nil)
        case CC_STEP_MOUNT_OPTION: return ("set mount option \"\(detail)\"", number == EINVAL ? .invalidArgument : nil)
        case CC_STEP_MOUNT_ATTRIBUTES: return ("set the options of mount \(detail)", nil)
        case CC_STEP_MOUNT_TARGET, CC_STEP_MOUNT_ATTACH:
            return ("make mount destination \(detail) in the image", isPathError(number) ? .invalidArgument : nil)
        case CC_STEP_DEVICE: return ("make device \(detail)", isPathError(number) ? .invalidArgument : nil)
        case CC_STEP_LINK: return ("make link \(detail)", nil)
        case CC_STEP_MASK: return ("mask \(detail)", nil)
        case CC_STEP_READONLY: return ("make \(detail) read-only", nil)
        case CC_STEP_PIVOT: return ("change to the new root", nil)
        case CC_STEP_WORKING_DIRECTORY: return ("enter working directory \(detail)", .invalidArgument)
        case CC_STEP_RLIMIT: return ("set the resource limits", nil)
        case CC_STEP_CAPABILITIES: return ("set capabilities (\(detail))", nil)
        case CC_STEP_USER: return ("change to the user (\(detail))", nil)
        case CC_STEP_NO_NEW_PRIVILEGES: return ("set no_new_privs", nil)
        case CC_STEP_USER_NAMESPACE: return ("enter the pod's user namespace", nil)
        case CC_STEP_SECCOMP: return ("load the seccomp filter", number == EINVAL ? .invalidArgument : nil)
        case CC_STEP_COMMAND_NOT_FOUND: return ("command \"\(detail)\" not found in the image: check the path and PATH", .notFound)
        case CC_STEP_INTERPRETER: return ("execute \(detail): its interpreter or loader is missing", .invalidArgument)
        case CC_STEP_EXEC: return ("execute \(detail)", number == ENOMEM || number == EAGAIN ? .resourceExhausted : .invalidArgument)
        default: return ("step \(step.rawValue) (\(detail))", nil)
        }
    }

    /// What an image or a spec does wrong about a path, as opposed to what the machine lacks.
    private static func isPathError(_ number: Int32) -> Bool {
        [ELOOP, ENOTDIR, EISDIR, ENAMETOOLONG, EEXIST, ENOENT, EXDEV].contains(number)
    }
}
