import CLinux
import Errors
import Glibc

/// A running child with its pipes. Used by one thread from start to end.
struct SpawnedChild {
    private let spawn: Spawn
    private let started: ContinuousClock.Instant
    private let pid: pid_t
    /// Becomes readable when the child has ended.
    private let exit: Int32
    private let input: Int32
    private let output: Int32
    private let errorOutput: Int32

    init(_ spawn: Spawn) throws {
        self.spawn = spawn
        let step = "starting \(spawn.executable)"
        var pipes: [Int32] = []
        var kept = false
        defer { if !kept { pipes.forEach { close($0) } } }
        for _ in 0..<3 {
            var pair: [Int32] = [-1, -1]
            guard clinux_pipe2(&pair, O_CLOEXEC) == 0 else { throw SwiftletError.system("\(step): pipe") }
            pipes += pair
        }

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, pipes[0], 0)
        posix_spawn_file_actions_adddup2(&actions, pipes[3], 1)
        posix_spawn_file_actions_adddup2(&actions, pipes[5], 2)
        clinux_spawn_close_from(&actions, 3)
        if let directory = spawn.directory { clinux_spawn_change_directory(&actions, directory) }

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // A fresh process group, no blocked signals and default dispositions, whatever the daemon has set for itself.
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        let arguments = CStrings([spawn.executable] + spawn.arguments)
        let environment = spawn.environment.map { CStrings($0.map { "\($0.key)=\($0.value)" }) }
        var pid: pid_t = 0
        let failure = ForkGate.hold {
            posix_spawn(&pid, spawn.executable, &actions, &attributes, arguments.pointers, environment?.pointers ?? environ)
        }
        guard failure == 0 else { throw SwiftletError.system(step, errno: failure) }
        started = .now
        self.pid = pid
        kept = true
        [pipes[0], pipes[3], pipes[5]].forEach { close($0) }
        (input, output, errorOutput) = (pipes[1], pipes[2], pipes[4])
        exit = clinux_pidfd_open(pid, 0)
        [input, output, errorOutput].forEach { _ = fcntl($0, F_SETFL, O_NONBLOCK) }
    }

    /// Feeds, reads and waits until the child has ended, then collects its status.
    consuming func finish() throws -> Spawn.Result {
        var open = Set([input, output, errorOutput])
        defer {
            open.forEach { close($0) }
            if exit >= 0 { close(exit) }
        }
        var sent = 0
        var collected: [Int32: [UInt8]] = [output: [], errorOutput: []]
        var truncated = false
        var ended = false

        while !ended || !open.isDisjoint(with: [output, errorOutput]) {
            let left = spawn.deadline - started.duration(to: .now)
            if left <= .zero {
                killGroup()
                if !ended { _ = reap() }
                throw SwiftletError(
                    .deadlineExceeded,
                    "\(spawn.executable) did not finish within \(spawn.deadline) and was killed\(said(collected[errorOutput]))")
            }
            if open.contains(input), sent == spawn.input.count {
                close(input)
                open.remove(input)
            }
            var descriptors = open.map { pollfd(fd: $0, events: Int16($0 == input ? POLLOUT : POLLIN), revents: 0) }
            if !ended, exit >= 0 { descriptors.append(pollfd(fd: exit, events: Int16(POLLIN), revents: 0)) }
            // After its end only what is already in the pipes counts: a grandchild may hold them open for ever.
            let wait = ended ? 0 : exit < 0 ? 10 : min(max(left.milliseconds, 1), 60_000)
            let ready = poll(&descriptors, nfds_t(descriptors.count), Int32(wait))
            if ready < 0, errno != EINTR { throw SwiftletError.system("waiting for \(spawn.executable)") }
            if ended, ready == 0 { break }
            if exit < 0, !ended { ended = hasEnded() }

            for descriptor in descriptors where descriptor.revents != 0 {
                switch descriptor.fd {
                case exit: ended = true
                case input:
                    let count = write(input, remainder: spawn.input[sent...])
                    if let count { sent += count } else { sent = spawn.input.count }
                default:
                    guard let chunk = read(descriptor.fd) else {
                        close(descriptor.fd)
                        open.remove(descriptor.fd)
                        continue
                    }
                    var room = max(0, spawn.outputLimit - (collected[descriptor.fd]?.count ?? 0))
                    if let admit = spawn.admit {
                        do {
                            room = min(room, try admit(min(room, chunk.count)))
                        } catch {
                            killGroup()
                            if !ended { _ = reap() }
                            throw error
                        }
                    }
                    truncated = truncated || chunk.count > room
                    collected[descriptor.fd]?.append(contentsOf: chunk.prefix(room))
                }
            }
        }
        guard let status = reap() else {
            throw SwiftletError(.internal, "the exit status of \(spawn.executable) was collected by someone else")
        }
        return Spawn.Result(
            status: status, output: collected[output] ?? [], errorOutput: collected[errorOutput] ?? [], truncated: truncated)
    }

    private func killGroup() {
        kill(-pid, SIGKILL)
        kill(pid, SIGKILL)
    }

    private func said(_ bytes: [UInt8]?) -> String {
        guard let bytes, !bytes.isEmpty else { return "" }
        return "; it said: \(String(decoding: bytes.prefix(1024), as: UTF8.self))"
    }

    /// Without pidfds (kernels before 5.3): whether a wait would return at once, leaving the zombie for `reap`.
    private func hasEnded() -> Bool {
        var information = siginfo_t()
        return waitid(P_PID, id_t(pid), &information, WEXITED | WNOHANG | WNOWAIT) != 0 || information.si_signo != 0
    }

    private func reap() -> Int32? {
        var status: Int32 = 0
        while true {
            let result = waitpid(pid, &status, 0)
            if result == pid { break }
            if result < 0, errno != EINTR { return nil }
        }
        let signal = status & 0x7F
        return signal == 0 ? (status >> 8) & 0xFF : 128 + signal
    }

    /// Bytes written, 0 when the pipe is full, nil when the child reads no more.
    private func write(_ descriptor: Int32, remainder: ArraySlice<UInt8>) -> Int? {
        let count = remainder.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        if count >= 0 { return count }
        return errno == EAGAIN || errno == EINTR ? 0 : nil
    }

    /// What is there to read; nil at the end.
    private func read(_ descriptor: Int32) -> [UInt8]? {
        var end = false
        let chunk = [UInt8](unsafeUninitializedCapacity: 64 << 10) { buffer, count in
            let result = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
            count = max(0, result)
            end = result == 0 || result < 0 && errno != EAGAIN && errno != EINTR
        }
        return end ? nil : chunk
    }
}

/// A NULL-terminated array of C strings that lives as long as the object.
private final class CStrings {
    let pointers: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
    private let count: Int

    init(_ strings: [String]) {
        count = strings.count
        pointers = .allocate(capacity: count + 1)
        for (index, string) in strings.enumerated() { pointers[index] = strdup(string) }
        pointers[count] = nil
    }

    deinit {
        for index in 0..<count { free(pointers[index]) }
        pointers.deallocate()
    }
}

extension Duration {
    /// Whole milliseconds, rounded down and clamped to what poll(2) takes.
    var milliseconds: Int {
        let (seconds, attoseconds) = components
        guard seconds < Int64(Int32.max) / 1000 else { return Int(Int32.max) }
        return Int(seconds) * 1000 + Int(attoseconds / 1_000_000_000_000_000)
    }
}
