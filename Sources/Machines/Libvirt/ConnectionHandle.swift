import CLibvirt
import Errors
import Synchronization

/// One open connection, closed when the last call that uses it has returned.
///
/// Unchecked, because the pointer is a C value: libvirt's connections may be used by any number of threads at once, and
/// the count below keeps it from being closed under them.
final class ConnectionHandle: @unchecked Sendable {
    private struct Use {
        var users = 0
        var closed = false
    }

    private let pointer: virConnectPtr
    private let events: [Int32]
    /// The registration for QEMU's own events.
    private let shutdowns: Int32
    private let use = Mutex(Use())

    /// Opens a connection, sends its domains' events to `hub` and calls `onClose` when the daemon hangs up.
    ///
    /// - Throws: `unavailable` with libvirt's reason.
    init(_ uri: String, hub: MachineEventHub, onClose: @escaping @Sendable (ConnectionHandle) -> Void) throws {
        try LibvirtEventLoop.start()
        guard let pointer = virConnectOpen(uri) else {
            throw SwiftletError(.unavailable, "connect to libvirt at \(uri)", cause: LibvirtError.last())
        }
        events = [
            clibvirt_register_lifecycle(pointer, receiveLifecycle, retained(hub), releaseContext),
            clibvirt_register_disk_errors(pointer, receiveDiskError, retained(hub), releaseContext),
            clibvirt_register_reboots(pointer, receiveReboot, retained(hub), releaseContext),
            clibvirt_register_watchdogs(pointer, receiveWatchdog, retained(hub), releaseContext),
        ]
        guard events.allSatisfy({ $0 >= 0 }) else {
            let error = SwiftletError.libvirt("register for the events of \(uri)")
            virConnectClose(pointer)
            throw error
        }
        self.pointer = pointer
        // libvirt's test driver has no QEMU.
        shutdowns =
            uri.hasPrefix("qemu")
            ? virConnectDomainQemuMonitorEventRegister(pointer, nil, "SHUTDOWN", receiveShutdown, retained(hub), releaseContext, 0) : -1
        // Only connections to a daemon can be closed by the other side, and only they are kept alive: 3 unanswered
        // messages at 5 seconds' distance end them.
        let closing = CloseAction { [weak self] in
            if let self { onClose(self) }
        }
        if virConnectRegisterCloseCallback(pointer, receiveClose, retained(closing), releaseContext) == 0 {
            virConnectSetKeepAlive(pointer, 5, 3)
        }
    }

    /// Calls `body` with the connection, on the caller's thread.
    ///
    /// - Throws: `unavailable` once it is closed.
    func with<Value>(_ body: (virConnectPtr) throws -> Value) throws -> Value {
        try use.withLock { use in
            guard !use.closed else { throw SwiftletError(.unavailable, "the connection to libvirt is closed") }
            use.users += 1
        }
        defer {
            let last = use.withLock { use in
                use.users -= 1
                return use.closed && use.users == 0
            }
            if last { virConnectClose(pointer) }
        }
        return try body(pointer)
    }

    /// Stops events and closes the connection, now or after the last call in flight. May block.
    func close() {
        let first = use.withLock { use in
            guard !use.closed else { return false }
            use.closed = true
            use.users += 1
            return true
        }
        guard first else { return }
        virConnectUnregisterCloseCallback(pointer, receiveClose)
        if shutdowns >= 0 { virConnectDomainQemuMonitorEventDeregister(pointer, shutdowns) }
        for event in events { virConnectDomainEventDeregisterAny(pointer, event) }
        let last = use.withLock { use in
            use.users -= 1
            return use.users == 0
        }
        if last { virConnectClose(pointer) }
    }
}

private final class CloseAction: Sendable {
    let run: @Sendable () -> Void
    init(run: @escaping @Sendable () -> Void) { self.run = run }
}

private func retained(_ object: some AnyObject) -> UnsafeMutableRawPointer { Unmanaged.passRetained(object).toOpaque() }

private let releaseContext: virFreeCallback = { context in
    guard let context else { return }
    Unmanaged<AnyObject>.fromOpaque(context).release()
}

private let receiveClose: virConnectCloseFunc = { _, _, context in
    guard let context else { return }
    Unmanaged<CloseAction>.fromOpaque(context).takeUnretainedValue().run()
}

private func hub(_ context: UnsafeMutableRawPointer) -> MachineEventHub {
    Unmanaged<MachineEventHub>.fromOpaque(context).takeUnretainedValue()
}

private let receiveLifecycle: virConnectDomainEventCallback = { _, domain, event, detail, context in
    guard let context, let domain, let uuid = DomainPointer(domain).uuid else { return 0 }
    hub(context).receive(MachineID(uuid), name: DomainPointer(domain).name, lifecycle: event, detail: detail)
    return 0
}

private let receiveReboot: virConnectDomainEventGenericCallback = { _, domain, context in
    guard let context, let domain, let uuid = DomainPointer(domain).uuid else { return }
    hub(context).receiveReboot(MachineID(uuid))
}

private let receiveWatchdog: virConnectDomainEventWatchdogCallback = { _, domain, action, context in
    guard let context, let domain, let uuid = DomainPointer(domain).uuid else { return }
    hub(context).receiveWatchdog(MachineID(uuid), action: action)
}

private let receiveDiskError: virConnectDomainEventIOErrorReasonCallback = { _, domain, path, _, action, reason, context in
    guard let context, let domain, let uuid = DomainPointer(domain).uuid, let path, let reason else { return }
    hub(context).receiveDiskError(MachineID(uuid), String(cString: reason), of: String(cString: path), action: action)
}

private let receiveShutdown: virConnectDomainQemuMonitorEventCallback = { _, domain, _, _, _, details, context in
    guard let context, let domain, let uuid = DomainPointer(domain).uuid, let details else { return }
    hub(context).receiveShutdown(MachineID(uuid), details: String(cString: details))
}
