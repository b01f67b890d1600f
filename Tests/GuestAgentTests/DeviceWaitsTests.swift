import Errors
import Synchronization
import Testing

@testable import GuestAgent

/// Disks that a test plugs in.
final class PluggedDisks: Sendable {
    private let serials = Mutex<Set<String>>([])
    private let scanned = Atomic(0)

    func plug(_ serial: String) { serials.withLock { _ = $0.insert(serial) } }

    var scans: Int { scanned.load(ordering: .relaxed) }

    /// - Parameter rounds: how often a disk that does not come is looked for, 5 ms apart.
    func waits(rounds: Int) -> DeviceWaits {
        DeviceWaits(
            disks: DeviceWaits.Disks(
                present: { wanted in self.serials.withLock { wanted.intersection($0) } },
                scan: { self.scanned.add(1, ordering: .relaxed) }),
            modules: DeviceWaits.Modules(areLoaded: { true }, wait: {}), rounds: rounds)
    }
}

extension DeviceWaits {
    fileprivate func wait(for devices: AwaitedDevices) async throws {
        try await withCheckedThrowingContinuation { continuation in wait(for: devices) { continuation.resume(with: $0) } }
    }
}

@Suite(.timeLimit(.minutes(2))) struct DeviceWaitsTests {
    private let disks = PluggedDisks()

    @Test func whatIsThereIsNotWaitedFor() async throws {
        disks.plug("a")
        try await disks.waits(rounds: 1).wait(for: AwaitedDevices(disks: ["a"]))
        #expect(disks.scans == 0)
    }

    @Test func allDevicesOfAContainerAreWaitedForAtOnce() async throws {
        let isThere = Atomic(false)
        let waits = disks.waits(rounds: 100_000)
        let other: @Sendable () -> Bool = { isThere.load(ordering: .relaxed) }
        async let waited: Void = waits.wait(for: AwaitedDevices(disks: ["a", "b", "c"], others: ["share": other]))
        for serial in ["c", "a", "b"] {
            try await Task.sleep(for: .milliseconds(10))
            disks.plug(serial)
        }
        isThere.store(true, ordering: .relaxed)
        try await waited
    }

    @Test func aDiskWhoseEventIsLostIsScannedForAfterAMoment() async throws {
        let waits = disks.waits(rounds: 100_000)
        async let waited: Void = waits.wait(for: AwaitedDevices(disks: ["a"]))
        while disks.scans == 0 { try await Task.sleep(for: .milliseconds(5)) }
        disks.plug("a")
        try await waited
        // One that comes at once is not scanned for.
        let scans = disks.scans
        async let next: Void = waits.wait(for: AwaitedDevices(disks: ["b"]))
        disks.plug("b")
        try await next
        #expect(disks.scans == scans)
    }

    @Test func whatDoesNotComeIsNamedAndHoldsNobodyElseUp() async throws {
        let waits = disks.waits(rounds: 40)
        disks.plug("a")
        let lost = Task { try await waits.wait(for: AwaitedDevices(disks: ["a", "missing"], others: ["share x": { false }])) }
        async let late: Void = waits.wait(for: AwaitedDevices(disks: ["late"]))
        disks.plug("late")
        try await late
        let error = await #expect(throws: SwiftletError.self) { try await lost.value }
        #expect(error?.code == .notFound)
        #expect(error?.message.contains("no disk with serial missing, no share x") == true)
        // The thread has ended by now, or goes on: the next one is waited for all the same.
        async let next: Void = waits.wait(for: AwaitedDevices(disks: ["next"]))
        disks.plug("next")
        try await next
    }

    @Test func nothingIsLookedForBeforeTheModulesAreLoaded() async throws {
        let loaded = try Latch()
        disks.plug("a")
        let waits = DeviceWaits(
            disks: DeviceWaits.Disks(present: { loaded.isOpen ? $0 : [] }, scan: {}),
            modules: DeviceWaits.Modules(areLoaded: { loaded.isOpen }, wait: { loaded.wait() }), rounds: 1)
        async let waited: Void = waits.wait(for: AwaitedDevices(disks: ["a"]))
        async let nothing: Void = waits.wait(for: AwaitedDevices())
        try await Task.sleep(for: .milliseconds(50))
        loaded.open()
        try await waited
        try await nothing
    }
}
