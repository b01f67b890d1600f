import CLinux
import Concurrency
import Errors
import Glibc
import Linux
import Synchronization

/// What has to be plugged into the guest before a container can be made.
struct AwaitedDevices: Sendable {
    /// Serials of SCSI disks.
    var disks: Set<String> = []
    /// Further devices by what an error calls them, with a look whether they are there that does not block.
    var others: [String: @Sendable () -> Bool] = [:]

    var isEmpty: Bool { disks.isEmpty && others.isEmpty }

    mutating func formUnion(_ more: AwaitedDevices) {
        disks.formUnion(more.disks)
        others.merge(more.others) { first, _ in first }
    }
}

/// Waits for devices that the host plugs in: for all containers at once, on one thread that is there while something is waited
/// for. Nobody's thread and no lock is held meanwhile.
public final class DeviceWaits: Sendable {
    typealias Completion = @Sendable (Result<Void, SwiftletError>) -> Void

    /// How disks are found.
    struct Disks: Sendable {
        /// Those of the serials whose disks can be opened.
        var present: @Sendable (_ serials: Set<String>) -> Set<String>
        /// Has the kernel look for disks.
        var scan: @Sendable () -> Void
    }

    /// The kernel's modules for disks and their filesystems; opened once.
    struct Modules: Sendable {
        var areLoaded: @Sendable () -> Bool
        var wait: @Sendable () -> Void
    }

    private struct Waiter {
        var missing: AwaitedDevices
        var rounds = 0
        var complete: Completion
    }

    private struct State {
        var waiters: [Waiter] = []
        var isRunning = false
    }

    /// About ten seconds. Counted, not timed: a guest's clock may jump.
    private let rounds: Int
    private static let pause: useconds_t = 5000
    /// Rounds of a waiter before its first scan, and from one to the next. The guest's kernel is configured not to scan by itself, the
    /// boot scans once, and an event of a disk that is plugged in later may be lost.
    private static let (firstScan, scanEvery) = (20, 100)

    private let disks: Disks
    private let modules: Modules
    private let state = Mutex(State())

    init(disks: Disks, modules: Modules, rounds: Int = 2000) {
        self.disks = disks
        self.modules = modules
        self.rounds = rounds
    }

    /// For tests, and for guests whose devices are always there.
    public static let none = DeviceWaits(
        disks: Disks(present: { $0 }, scan: {}), modules: Modules(areLoaded: { true }, wait: {}))

    /// Completes once: on the caller's thread when all is there, else on the thread that waits, which must not be held up.
    ///
    /// - Parameter complete: takes `.notFound` naming what did not come within about ten seconds.
    func wait(for devices: AwaitedDevices, _ complete: @escaping Completion) {
        let missing = modules.areLoaded() ? look(for: devices) : devices
        if missing.isEmpty, modules.areLoaded() { return complete(.success(())) }
        let starts = state.withLock { state in
            state.waiters.append(Waiter(missing: missing, complete: complete))
            defer { state.isRunning = true }
            return !state.isRunning
        }
        guard starts else { return }
        do {
            try OwnThread.start { self.run() }
        } catch {
            let waiters = state.withLock { state in
                defer { state = State() }
                return state.waiters
            }
            for waiter in waiters { waiter.complete(.failure(SwiftletError.wrap(error, "wait for devices"))) }
        }
    }

    private func run() {
        clinux_name_thread("devices")
        modules.wait()
        while let (awaited, scans) = nextRound() {
            if scans { disks.scan() }
            let missing = look(for: awaited)
            for (waiter, result) in finish(missing: missing, of: awaited) { waiter.complete(result) }
            usleep(Self.pause)
        }
    }

    /// What is waited for, and whether to scan for it; nil, and the end of the thread, when there is nothing.
    private func nextRound() -> (AwaitedDevices, scans: Bool)? {
        state.withLock { state in
            guard !state.waiters.isEmpty else {
                state.isRunning = false
                return nil
            }
            var awaited = AwaitedDevices()
            var scans = false
            for index in state.waiters.indices {
                let waiter = state.waiters[index]
                awaited.formUnion(waiter.missing)
                if waiter.rounds % Self.scanEvery == Self.firstScan, !waiter.missing.disks.isEmpty { scans = true }
                state.waiters[index].rounds += 1
            }
            return (awaited, scans)
        }
    }

    /// - Returns: what is not there.
    private func look(for devices: AwaitedDevices) -> AwaitedDevices {
        AwaitedDevices(
            disks: devices.disks.isEmpty ? [] : devices.disks.subtracting(disks.present(devices.disks)),
            others: devices.others.filter { !$0.value() })
    }

    /// Takes out those whose devices have all come, and those that have waited long enough. One that joined after the look keeps
    /// what was not looked for.
    private func finish(missing: AwaitedDevices, of awaited: AwaitedDevices) -> [(Waiter, Result<Void, SwiftletError>)] {
        let disks = awaited.disks.subtracting(missing.disks)
        let others = Set(awaited.others.keys).subtracting(missing.others.keys)
        return state.withLock { state in
            var done: [(Waiter, Result<Void, SwiftletError>)] = []
            var waiting: [Waiter] = []
            for var waiter in state.waiters {
                waiter.missing.disks.subtract(disks)
                waiter.missing.others = waiter.missing.others.filter { !others.contains($0.key) }
                if waiter.missing.isEmpty {
                    done.append((waiter, .success(())))
                } else if waiter.rounds >= rounds {
                    done.append((waiter, .failure(Self.absent(waiter.missing))))
                } else {
                    waiting.append(waiter)
                }
            }
            state.waiters = waiting
            return done
        }
    }

    private static func absent(_ missing: AwaitedDevices) -> SwiftletError {
        let names = missing.disks.map { "disk with serial \($0)" }.sorted() + missing.others.keys.sorted()
        let more = names.count > 3 ? " and \(names.count - 3) more" : ""
        let list = names.prefix(3).map { "no \(printable($0))" }.joined(separator: ", ")
        return SwiftletError(.notFound, "\(list)\(more) attached to the guest: attach what is named before it is named")
    }
}
