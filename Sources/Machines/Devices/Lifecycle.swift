/// A guest that powers off or crashes ends its domain, one that reboots by the machine's policy; the clock is UTC and has no legacy timers.
struct Lifecycle: DomainConfigurator {
    func configure(_ spec: MachineSpec, _ domain: inout DomainDocument) {
        domain.settings.append(XMLTag("clock", ["offset": "utc"], [XMLTag("timer", ["name": "hpet", "present": "no"])]))
        domain.settings.append(XMLTag("on_poweroff", text: "destroy"))
        domain.settings.append(XMLTag("on_reboot", text: spec.reboot == .restart ? "restart" : "destroy"))
        domain.settings.append(XMLTag("on_crash", text: "destroy"))
    }
}
