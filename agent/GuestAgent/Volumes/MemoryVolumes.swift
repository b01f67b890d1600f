import AgentProtocol
import CContainer
import CLinux
import Errors
import Glibc
import Linux
import Synchronization

/// The pod's volumes in memory: a tmpfs each, made for the first container that names it and kept as long as the pod.
final class MemoryVolumes: VolumeKind {
    private let directory: String
    private let made = Mutex<Set<String>>([])

    /// - Parameter directory: where their mount points are; made when it is needed.
    init(directory: String) { self.directory = directory }

    /// Bounds what the host can make the agent hold.
    private static let most = 256

    func devices(for request: VolumeRequest) throws(SwiftletError) -> AwaitedDevices {
        try check(request.mount.memory)
        return AwaitedDevices()
    }

    func bring(_ request: VolumeRequest, mounted: (String) -> Void) throws(SwiftletError) -> String {
        let memory = request.mount.memory
        try check(memory)
        let volume = try path(memory)
        guard !request.mount.subPath.isEmpty else { return volume }
        try makeDirectory(request.directory)
        let place = "\(request.directory)/part"
        let ownership = VolumePart.Ownership(uid: memory.uid, gid: memory.gid, mode: memory.mode)
        try VolumePart.mount(request.mount.subPath, of: volume, at: place, missing: ownership)
        mounted(place)
        return place
    }

    /// - Throws: `.invalidArgument` naming what is wrong with the name or the mode.
    private func check(_ volume: AgentMemoryVolume) throws(SwiftletError) {
        let name = volume.name.utf8
        let letters = name.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"):
                true
            default: false
            }
        }
        guard (1...64).contains(name.count), letters else {
            throw SwiftletError(
                .invalidArgument, "memory volume \(printable(volume.name)): its name is not 1 to 64 letters, digits and '-'")
        }
        guard volume.mode & ~0o7777 == 0 else {
            throw SwiftletError(.invalidArgument, "memory volume \(volume.name): mode \(volume.mode) is more than permission bits")
        }
    }

    /// The directory where the volume is mounted.
    private func path(_ volume: AgentMemoryVolume) throws(SwiftletError) -> String {
        try made.withLock { (made) throws(SwiftletError) in
            let path = "\(directory)/\(volume.name)"
            if made.contains(volume.name) { return path }
            guard made.count < Self.most else {
                throw SwiftletError(.resourceExhausted, "the pod has \(Self.most) volumes in memory already")
            }
            let memory = UInt64(max(0, sysconf(Int32(_SC_PHYS_PAGES)))) * UInt64(max(0, sysconf(Int32(_SC_PAGESIZE))))
            let size = volume.size == 0 ? memory : min(volume.size, memory)
            let mode = String(volume.mode, radix: 8)
            try Mounts.mount("tmpfs", "tmpfs", at: path, options: "size=\(size),mode=\(mode),uid=\(volume.uid),gid=\(volume.gid)")
            made.insert(volume.name)
            return path
        }
    }

    func release() {
        made.withLock { made in
            for name in made {
                cc_unmount("\(directory)/\(name)")
                rmdir("\(directory)/\(name)")
            }
            made = []
            rmdir(directory)
        }
    }
}
