import Glibc

/// Attaches image files to loop devices that the kernel frees with the last user.
enum LoopDevice {
    // linux/loop.h
    private static let getFree: UInt = 0x4C82
    private static let configure: UInt = 0x4C0A
    private static let configurationSize = 304
    private static let flagsOffset = 60
    private static let readOnlyAutoclear: UInt32 = 1 | 4

    /// - Returns: the device's path; it stays attached while this process lives.
    static func attach(_ image: String) -> String? {
        let control = open("/dev/loop-control", O_RDWR | O_CLOEXEC)
        let file = open(image, O_RDONLY | O_CLOEXEC)
        guard control >= 0, file >= 0 else { return nil }
        defer {
            close(control)
            close(file)
        }
        var configuration = [UInt8](repeating: 0, count: configurationSize)
        configuration.withUnsafeMutableBytes {
            $0.storeBytes(of: UInt32(file), toByteOffset: 0, as: UInt32.self)
            $0.storeBytes(of: readOnlyAutoclear, toByteOffset: flagsOffset, as: UInt32.self)
        }
        // Another process may take the free number first.
        for _ in 0..<64 {
            let number = ioctl(control, getFree)
            guard number >= 0 else { return nil }
            let path = "/dev/loop\(number)"
            let device = open(path, O_RDONLY | O_CLOEXEC)
            guard device >= 0 else { return nil }
            let result = configuration.withUnsafeMutableBytes { bytes in bytes.baseAddress.map { ioctl(device, configure, $0) } }
            if result == 0 { return path }
            let reason = errno
            close(device)
            guard reason == EBUSY else { return nil }
        }
        return nil
    }
}
