/// The platform this program is built for, in the words of those who ask. A node's guests have its own.
public struct Platform: Sendable, Hashable {
    /// GOOS: OCI images and Docker's profiles.
    public var os: String
    /// GOARCH: OCI images, Docker's seccomp profiles.
    public var architecture: String
    /// uname(2), libvirt, and the end of QEMU's name.
    public var machine: String
    /// libseccomp's name of the architecture, and of those whose system calls its kernel also takes.
    public var seccompArchitecture: String
    public var otherSeccompArchitectures: [String]

    public init(os: String, architecture: String, machine: String, seccompArchitecture: String, otherSeccompArchitectures: [String]) {
        self.os = os
        self.architecture = architecture
        self.machine = machine
        self.seccompArchitecture = seccompArchitecture
        self.otherSeccompArchitectures = otherSeccompArchitectures
    }

    #if arch(x86_64)
        public static let current = Platform(
            os: "linux", architecture: "amd64", machine: "x86_64", seccompArchitecture: "SCMP_ARCH_X86_64",
            otherSeccompArchitectures: ["SCMP_ARCH_X86", "SCMP_ARCH_X32"])
    #else
        // Machines boot by PVH, the guest is Debian's amd64 kernel, and the agent's clone is written for this machine.
        #error("Swiftlet runs on x86-64")
    #endif
}
