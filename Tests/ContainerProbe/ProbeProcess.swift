import Glibc
import GuestAgent

/// A process under test: the other ends of its stdio.
final class ProbeProcess {
    private(set) var pid: pid_t = 0
    private var outputs: [Int32]
    private var given: [Int32]
    let descriptors: ProcessDescriptors

    /// Pipes for output, /dev/null for input; or a terminal for all.
    init(terminal: Bool) {
        if terminal {
            let controller = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
            // TIOCSPTLCK and TIOCGPTN of asm-generic/ioctls.h
            var locked: Int32 = 0
            var number: Int32 = 0
            _ = ioctl(controller, 0x4004_5431, &locked)
            _ = ioctl(controller, 0x8004_5430, &number)
            let terminal = open("/dev/pts/\(number)", O_RDWR | O_NOCTTY | O_CLOEXEC)
            outputs = [controller]
            given = [terminal]
            descriptors = ProcessDescriptors(stdin: terminal, stdout: terminal, stderr: terminal, terminal: true)
        } else {
            var out: [Int32] = [0, 0]
            var err: [Int32] = [0, 0]
            pipe(&out)
            pipe(&err)
            for end in [out[0], err[0]] { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
            let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
            outputs = [out[0], err[0]]
            given = [null, out[1], err[1]]
            descriptors = ProcessDescriptors(stdin: null, stdout: out[1], stderr: err[1], terminal: false)
        }
    }

    func started(_ pid: pid_t) {
        self.pid = pid
        wasGiven()
    }

    /// The process has its ends: nobody else may keep them open.
    func wasGiven() {
        for descriptor in given { close(descriptor) }
        given = []
    }

    deinit {
        for descriptor in given + outputs where descriptor >= 0 { close(descriptor) }
    }

    /// A terminal that is open already, for all.
    init(master: Int32, slave: Int32) {
        outputs = [master]
        given = [slave]
        descriptors = ProcessDescriptors(stdin: slave, stdout: slave, stderr: slave, terminal: true)
    }

    /// Collects output until its end, then the exit code; nil when that takes more than a minute.
    func finish() -> (code: Int32, output: [[UInt8]])? {
        var collected: [[UInt8]] = Array(repeating: [], count: outputs.count)
        while outputs.contains(where: { $0 >= 0 }) {
            var waited = outputs.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            guard poll(&waited, nfds_t(waited.count), 60_000) > 0 else { return nil }
            for index in waited.indices where waited[index].revents != 0 {
                var chunk = [UInt8](repeating: 0, count: 65536)
                let count = read(outputs[index], &chunk, chunk.count)
                if count > 0 {
                    collected[index] += chunk[..<count]
                } else {
                    close(outputs[index])
                    outputs[index] = -1
                }
            }
        }
        var status: Int32 = 0
        for _ in 0..<6000 {
            if waitpid(pid, &status, WNOHANG) == pid {
                let signal = status & 0x7F
                return (signal == 0 ? (status >> 8) & 0xFF : 128 + signal, collected)
            }
            usleep(10_000)
        }
        return nil
    }
}
