import CLibvirt
import Concurrency
import Errors
import Glibc
import Linux

/// libvirt's event loop: it reads the daemon's messages and keeps connections alive, on a thread that never ends.
///
/// libvirt has one event loop per process, to be registered before the first connection opens.
enum LibvirtEventLoop {
    private static let started: Result<Void, SwiftletError> = Result { () throws(SwiftletError) in try launch() }

    /// Starts the loop on the first call and does nothing afterwards.
    static func start() throws(SwiftletError) {
        try started.get()
    }

    private static func launch() throws(SwiftletError) {
        clibvirt_silence_errors()
        // The embedded driver would print a line for each machine with a device that libvirt does not know. What goes
        // wrong comes back from the calls. The administrator's own choice stands.
        setenv("LIBVIRT_DEBUG", "error", 0)
        // libvirt's client writes to a socket whose other end may have died; by default that ends the process.
        signal(SIGPIPE, SIG_IGN)
        guard virInitialize() == 0 else { throw .libvirt("initialising libvirt") }
        guard virEventRegisterDefaultImpl() == 0 else { throw .libvirt("registering libvirt's event loop") }
        // poll(2) without a descriptor or a timeout would never return to see the first of either.
        let timer = virEventAddTimeout(1000, { _, _ in }, nil, nil)
        guard timer >= 0 else { throw .libvirt("starting libvirt's event loop") }
        do {
            try OwnThread.start {
                while true { virEventRunDefaultImpl() }
            }
        } catch {
            throw .wrap(error, "starting libvirt's event loop")
        }
    }
}
