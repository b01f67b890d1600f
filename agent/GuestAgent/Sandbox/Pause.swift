import Glibc

/// Short pauses of a thread that waits for the kernel.
enum Pause {
    static func milliseconds(_ count: UInt32) { usleep(count * 1000) }
}
