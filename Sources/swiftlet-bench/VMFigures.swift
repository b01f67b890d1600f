/// Of pods that are virtual machines, beside the same machine without a runtime.
struct VMFigures {
    /// Bytes that were written to the console at once.
    var consoleBytes = 0
    /// How long that took in the pod's machine, and in the other; nil when it was not measured.
    var consoleTime: Duration?
    var rawConsoleTime: Duration?
    /// Seconds of the processors that QEMU has used meanwhile, with the guest in it.
    var consoleProcessorTime: Double?
    var rawConsoleProcessorTime: Double?
    /// The pod's log holds every byte.
    var isConsoleWhole = false
    /// Proportional set sizes of the machine's processes without the guest's RAM; the other machine's QEMU.
    var memory: UInt64?
    var rawMemory: UInt64?
    /// Of `memory` and `rawMemory`, code that the emulator has translated.
    var translatedCode: UInt64?
    var rawTranslatedCode: UInt64?

    /// How many times more of the processors a pod's QEMU needs for it.
    var consoleProcessorRatio: Double? {
        guard let consoleProcessorTime, let rawConsoleProcessorTime, rawConsoleProcessorTime > 0 else { return nil }
        return consoleProcessorTime / rawConsoleProcessorTime
    }

    /// How many times longer a pod's guest takes for its output.
    var consoleRatio: Double? {
        guard let consoleTime, let rawConsoleTime, rawConsoleTime > .zero else { return nil }
        return consoleTime.milliseconds / rawConsoleTime.milliseconds
    }
}
