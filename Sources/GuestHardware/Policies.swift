/// What a reboot from inside means.
public enum RebootPolicy: String, Sendable, Codable, CaseIterable {
    /// The machine boots again, as the same QEMU.
    case restart
    /// The machine ends.
    case exit
}

/// What happens when the guest does not feed its watchdog any more.
public enum WatchdogAction: String, Sendable, Codable, CaseIterable {
    /// As by a reboot of the guest: the machine's policy decides.
    case reset
    /// The machine ends.
    case poweroff
    /// The machine is paused.
    case pause
}
