/// A guest that powers off, reboots or crashes ends its domain; the clock is UTC and has no legacy timers.
struct Lifecycle: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        domain.settings.append(XMLTag("clock", ["offset": "utc"], [XMLTag("timer", ["name": "hpet", "present": "no"])]))
        for event in ["on_poweroff", "on_reboot", "on_crash"] { domain.settings.append(XMLTag(event, text: "destroy")) }
    }
}
