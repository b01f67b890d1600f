import CContainer
import Errors
import Glibc
import Linux

/// Calls the C code and turns what its child reports into an error that names the step and the path.
enum Spawn {
    /// Milliseconds for everything between clone and exec, mounts included.
    static let timeout: Int32 = 60_000

    /// Where a process is born.
    enum Place {
        /// In a new root. The namespaces are those of the given processes; without one, PID is a new one and IPC the pod's.
        case first(root: cc_root, pidNamespace: OwnedDescriptor?, ipcNamespace: OwnedDescriptor?, newIPCNamespace: Bool)
        /// In all namespaces of this process.
        case further(in: OwnedDescriptor)
    }

    /// - Parameter userNamespace: nil for the guest's own.
    static func run(
        _ process: cc_process, _ place: Place, userNamespace: UserNamespace?, cgroup: ContainerCgroup, memory: CMemory,
        of container: String
    ) throws(SwiftletError) -> (pid: pid_t, process: OwnedDescriptor) {
        var spawn = flat(process, place, userNamespace, cgroup, memory)
        var pid: pid_t = 0
        var pidfd: Int32 = -1
        var failure = cc_failure()
        let result = withExtendedLifetime((memory, place, userNamespace, cgroup)) { cc_spawn(&spawn, &pid, &pidfd, &failure) }
        guard result == 0 else { throw error(failure, container) }
        return (pid, OwnedDescriptor(pidfd))
    }

    /// As `run` for a first process without a terminal, which is let go later.
    static func bear(
        _ process: cc_process, _ place: Place, userNamespace: UserNamespace?, cgroup: ContainerCgroup, memory: CMemory,
        of container: String
    ) throws(SwiftletError) -> Birth {
        var spawn = flat(process, place, userNamespace, cgroup, memory)
        var birth = cc_birth()
        var failure = cc_failure()
        let result = withExtendedLifetime((memory, place, userNamespace, cgroup)) { cc_bear(&spawn, &birth, &failure) }
        guard result == 0 else { throw error(failure, container) }
        return Birth(birth, of: container)
    }

    private static func flat(
        _ process: cc_process, _ place: Place, _ userNamespace: UserNamespace?, _ cgroup: ContainerCgroup, _ memory: CMemory
    ) -> cc_spawn {
        var spawn = cc_spawn(
            process: memory.value(process), root: nil, join_pidfd: -1, pid_namespace_pidfd: -1, ipc_namespace_pidfd: -1,
            new_ipc_namespace: false, user_namespace: userNamespace?.file.number ?? -1, owner_uid: userNamespace?.root.uid ?? 0,
            owner_gid: userNamespace?.root.gid ?? 0, cgroup: cgroup.directory.number, timeout_ms: timeout, gate: -1)
        switch place {
        case .first(let root, let pidNamespace, let ipcNamespace, let newIPCNamespace):
            spawn.root = memory.value(root)
            spawn.pid_namespace_pidfd = pidNamespace?.number ?? -1
            spawn.ipc_namespace_pidfd = ipcNamespace?.number ?? -1
            spawn.new_ipc_namespace = newIPCNamespace
        case .further(let process):
            spawn.join_pidfd = process.number
            spawn.pid_namespace_pidfd = process.number
        }
        return spawn
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
