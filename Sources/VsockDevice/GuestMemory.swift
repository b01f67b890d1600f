import CLinux
import Errors
import Glibc

/// One range of the guest's memory as the vhost-user front end describes it.
struct MemoryRegion: Equatable {
    /// Guest physical address of the first byte.
    var guestAddress: UInt64
    var size: UInt64
    /// Where QEMU has it in its own address space; rings are named by these addresses.
    var userAddress: UInt64
    /// Offset of the first byte in the region's file.
    var fileOffset: UInt64
}

/// The guest's memory mapped into this process. Nothing reaches it but by the two bounds-checked look-ups.
final class GuestMemory {
    /// vhost-user's baseline (VHOST_MEMORY_BASELINE_NREGIONS).
    static let maximumRegions = 8

    private struct Mapping {
        var region: MemoryRegion
        var host: UnsafeMutableRawPointer
        var base: UnsafeMutableRawPointer
        var length: Int
    }

    private let mappings: UnsafeMutablePointer<Mapping>
    private var count = 0

    /// Maps every region. The descriptors stay the caller's.
    /// - Throws: `invalidArgument` when the table is not sane (overlaps, overflows, files too short),
    ///   `resourceExhausted` when mapping fails.
    init(_ regions: [MemoryRegion], descriptors: [Int32]) throws(SwiftletError) {
        guard regions.count <= Self.maximumRegions, regions.count == descriptors.count else {
            throw SwiftletError(.invalidArgument, "memory table has \(regions.count) regions and \(descriptors.count) descriptors")
        }
        mappings = .allocate(capacity: Self.maximumRegions)
        for (region, descriptor) in zip(regions, descriptors) {
            let mapping = try Self.map(region, descriptor)
            for index in 0..<count where Self.overlap(mappings[index].region, region) {
                munmap(mapping.base, mapping.length)
                throw SwiftletError(.invalidArgument, "memory table has overlapping regions at guest address \(region.guestAddress)")
            }
            (mappings + count).initialize(to: mapping)
            count += 1
        }
    }

    deinit {
        for index in 0..<count { munmap(mappings[index].base, mappings[index].length) }
        mappings.deallocate()
    }

    /// The host's view of `length` bytes from a guest physical address.
    /// - Returns: nil if the first byte is in no region; else the pointer and how many of the bytes are contiguous
    ///   there (fewer than asked when a region ends).
    func bytes(atGuest address: UInt64, _ length: UInt64) -> (pointer: UnsafeMutableRawPointer, count: Int)? {
        for index in 0..<count {
            let mapping = mappings[index]
            let offset = address &- mapping.region.guestAddress
            guard address >= mapping.region.guestAddress, offset < mapping.region.size else { continue }
            return (mapping.host + Int(offset), Int(min(length, mapping.region.size - offset)))
        }
        return nil
    }

    /// The host's view of `length` bytes from an address of QEMU's; nil unless one region holds all of them.
    func bytes(atUser address: UInt64, _ length: UInt64) -> UnsafeMutableRawPointer? {
        for index in 0..<count {
            let mapping = mappings[index]
            let offset = address &- mapping.region.userAddress
            guard address >= mapping.region.userAddress, offset < mapping.region.size else { continue }
            return length <= mapping.region.size - offset ? mapping.host + Int(offset) : nil
        }
        return nil
    }

    private static func overlap(_ a: MemoryRegion, _ b: MemoryRegion) -> Bool {
        a.guestAddress < b.guestAddress + b.size && b.guestAddress < a.guestAddress + a.size
    }

    private static func map(_ region: MemoryRegion, _ descriptor: Int32) throws(SwiftletError) -> Mapping {
        let (end, overflow) = region.fileOffset.addingReportingOverflow(region.size)
        guard region.size > 0, !overflow, end <= UInt64(Int64.max),
            !region.guestAddress.addingReportingOverflow(region.size).overflow,
            !region.userAddress.addingReportingOverflow(region.size).overflow
        else {
            throw SwiftletError(.invalidArgument, "memory region at guest address \(region.guestAddress) has an impossible size")
        }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_size >= 0, UInt64(status.st_size) >= end else {
            throw SwiftletError(.invalidArgument, "memory region at guest address \(region.guestAddress) is longer than its file")
        }
        // st_blksize is the page size of the file: a huge page on hugetlbfs, where mappings must be whole pages.
        let page = UInt64(max(Int(status.st_blksize), 4096))
        let aligned = region.fileOffset / page * page
        let length = Int((end - aligned + page - 1) / page * page)
        guard let base = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, descriptor, off_t(aligned)),
            base != MAP_FAILED
        else {
            throw SwiftletError(.resourceExhausted, "cannot map \(length) bytes of guest memory: \(systemErrorText())")
        }
        return Mapping(region: region, host: base + Int(region.fileOffset - aligned), base: base, length: length)
    }
}
