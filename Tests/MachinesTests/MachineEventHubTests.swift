import Errors
import Testing

@testable import Machines

@Suite(.timeLimit(.minutes(1))) struct MachineEventHubTests {
    private let id = MachineID.random()

    /// What the hub makes of libvirt's events.
    private func events(_ happenings: (MachineEventHub) -> Void) async -> [MachineEvent] {
        let hub = MachineEventHub(logDirectory: nil)
        let stream = hub.events()
        happenings(hub)
        hub.close()
        var events: [MachineEvent] = []
        for await event in stream { events.append(event) }
        return events
    }

    /// libvirt's numbers (virDomainEventStoppedDetailType).
    @Test(arguments: [
        (Int32(0), MachineEnd.poweredOff), (1, .destroyed), (2, .panicked), (3, .unseen), (4, .saved), (5, .failed(lastWords: "")),
        (6, .unseen),
    ])
    func everyKindOfEndHasAName(detail: Int32, end: MachineEnd) async {
        #expect(await events { $0.receive(id, name: "a", lifecycle: 5, detail: detail) } == [.stopped(id, end)])
    }

    @Test func aResetIsNoPowerOffAndIsForgottenWithTheMachine() async {
        let seen = await events { hub in
            hub.receiveShutdown(id, details: #"{"guest":true,"reason":"guest-reset"}"#)
            for _ in 0..<2 { hub.receive(id, name: "a", lifecycle: 5, detail: 0) }
            hub.receiveShutdown(id, details: #"{"guest":true,"reason":"guest-shutdown"}"#)
            hub.receive(id, name: "a", lifecycle: 5, detail: 0)
        }
        #expect(seen == [.stopped(id, .reset), .stopped(id, .poweredOff), .stopped(id, .poweredOff)])
    }

    /// libvirt's numbers (virDomainEventSuspendedDetailType).
    @Test func pausesByPeopleAndWatchdogsAreToldAndOtherStopsAreNot() async {
        let seen = await events { hub in
            for detail: Int32 in 0...7 { hub.receive(id, name: "a", lifecycle: 3, detail: detail) }
            hub.receive(id, name: "a", lifecycle: 4, detail: 0)
        }
        #expect(seen == [.pauseChanged(id), .pauseChanged(id), .pauseChanged(id)])
    }

    @Test func theFirstReasonCountsAndANewMachineHasNone() async {
        let seen = await events { hub in
            hub.receiveShutdown(id, details: #"{"guest":true,"reason":"guest-shutdown"}"#)
            hub.receiveShutdown(id, details: #"{"guest":false,"reason":"host-signal"}"#)
            hub.receive(id, name: "a", lifecycle: 5, detail: 0)
            // Late: the next machine has the same id.
            hub.receiveShutdown(id, details: #"{"guest":false,"reason":"host-signal"}"#)
            hub.receive(id, name: "a", lifecycle: 2, detail: 0)
            hub.receive(id, name: "a", lifecycle: 5, detail: 0)
            hub.receiveShutdown(id, details: #"{"guest":false,"reason":"host-signal"}"#)
            hub.receive(id, name: "a", lifecycle: 5, detail: 0)
        }
        #expect(seen == [.stopped(id, .poweredOff), .stopped(id, .poweredOff), .stopped(id, .failed(lastWords: ""))])
    }

    @Test func aWatchdogThatEndsAMachineIsNamed() async {
        let seen = await events { hub in
            hub.receiveWatchdog(id, action: 3)
            hub.receive(id, name: "a", lifecycle: 5, detail: 5)
            // It resets the machine, which lives on.
            hub.receiveWatchdog(id, action: 2)
            hub.receive(id, name: "a", lifecycle: 5, detail: 0)
        }
        #expect(seen == [.stopped(id, .watchdog), .stopped(id, .poweredOff)])
    }

    @Test func aPanicIsAnEndAndALoadedCrashKernelIsNot() async {
        let seen = await events { hub in
            hub.receive(id, name: "a", lifecycle: 8, detail: 1)
            hub.receive(id, name: "a", lifecycle: 8, detail: 0)
            // Started, which tells nothing.
            hub.receive(id, name: "a", lifecycle: 2, detail: 0)
        }
        #expect(seen == [.stopped(id, .panicked)])
    }

    @Test func oneRebootIsOneEvent() async {
        let other = MachineID.random()
        let seen = await events { hub in
            for _ in 0..<5 { hub.receiveReboot(id) }
            hub.receiveReboot(other)
        }
        #expect(seen == [.rebooted(id), .rebooted(other)])
    }

    @Test func onlyWantOfRoomStopsAMachine() async {
        let seen = await events { hub in
            hub.receiveDiskError(id, "eio", of: "/a", action: 1)
            hub.receiveDiskError(id, "enospc", of: "/a", action: 2)
            hub.receiveDiskError(id, "enospc", of: "/a", action: 1)
        }
        #expect(seen == [.diskFull(id, path: "/a")])
    }
}
