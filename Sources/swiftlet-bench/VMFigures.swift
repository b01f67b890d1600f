/// Of pods that are virtual machines, beside the same machine without a runtime.
struct VMFigures {
    /// Bytes that were written to the console at once.
    var consoleBytes = 0
    /// How long that took in the pod's machine, and in the other; nil when it was not measured.
    var consoleTime: Duration?
    var rawConsoleTime: Duration?
    /// The pod's log holds every byte.
    var isConsoleWhole = false
    /// Proportional set sizes of the machine's processes without the guest's RAM; the other machine's QEMU.
    var memory: UInt64?
    var rawMemory: UInt64?

    /// How many times longer a pod's guest takes for its output.
    var consoleRatio: Double? {
        guard let consoleTime, let rawConsoleTime, rawConsoleTime > .zero else { return nil }
        return consoleTime.milliseconds / rawConsoleTime.milliseconds
    }
}
