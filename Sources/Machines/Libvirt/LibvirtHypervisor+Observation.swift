import CLibvirt
import Concurrency
import Errors
import Glibc

/// What is seen of machines from outside.
extension LibvirtHypervisor {
    public func domainXML(_ id: MachineID) async throws -> String {
        try await with(id, "describe machine \(id)", timeout: configuration.callTimeout) { try $0.description().rendered() }
    }

    public func lastEnd(ofMachineNamed name: String) async -> MachineEnd? {
        guard let directory = hub.logDirectory else { return nil }
        return await OwnThread.answer { DomainLog(directory: directory, name: name)?.end }
    }

    public func removeLog(ofMachineNamed name: String) async {
        guard let logs else { return }
        await OwnThread.answer { logs.remove(name) }
    }

    // MARK: Screen

    /// Bytes of a picture; a screen of 4K in full noise is 24 MiB.
    private static let largestPicture = 64 << 20

    public func screenshot(_ id: MachineID) async throws -> [UInt8] {
        let step = "take a picture of machine \(id)'s screen"
        return try await with(id, step, timeout: configuration.callTimeout) { domain in
            guard let connection = virDomainGetConnect(domain.pointer), let stream = virStreamNew(connection, 0) else {
                throw SwiftletError.libvirt(step)
            }
            defer { virStreamFree(stream) }
            guard let type = virDomainScreenshot(domain.pointer, stream, 0, 0) else {
                let error = SwiftletError.libvirt(step)
                // QEMU has no console to draw.
                throw SwiftletError(try domain.hasScreen ? error.code : .failedPrecondition, error.message, cause: error.cause)
            }
            defer { free(type) }
            do {
                let picture = try Self.read(stream, step)
                guard picture.starts(with: [0x89, 0x50, 0x4E, 0x47]) else {
                    throw SwiftletError(.internal, "\(step): libvirt sends \(String(cString: type)), not PNG")
                }
                virStreamFinish(stream)
                return picture
            } catch {
                virStreamAbort(stream)
                throw error
            }
        }
    }

    private static func read(_ stream: virStreamPtr, _ step: String) throws -> [UInt8] {
        var picture: [UInt8] = []
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 1)
        defer { buffer.deallocate() }
        while true {
            let count = virStreamRecv(stream, buffer.baseAddress?.assumingMemoryBound(to: CChar.self), buffer.count)
            guard count >= 0 else { throw SwiftletError.libvirt(step) }
            if count == 0 { return picture }
            picture += buffer.prefix(Int(count))
            guard picture.count <= largestPicture else {
                throw SwiftletError(.resourceExhausted, "\(step): it is larger than \(largestPicture) bytes")
            }
        }
    }

    // MARK: Use

    public func statistics(_ id: MachineID) async throws -> MachineStatistics {
        let step = "ask for the use of machine \(id)"
        return try await with(id, step, timeout: configuration.callTimeout) { domain in
            let serials = MachineAttachments(liveDomain: try domain.description()).serials
            var domains: [virDomainPtr?] = [domain.pointer, nil]
            var records: UnsafeMutablePointer<virDomainStatsRecordPtr?>?
            let kinds = VIR_DOMAIN_STATS_BALLOON.rawValue | VIR_DOMAIN_STATS_BLOCK.rawValue
            let count = virDomainListGetStats(&domains, kinds, &records, VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT.rawValue)
            guard count >= 0 else { throw SwiftletError.libvirt(step) }
            defer { virDomainStatsRecordListFree(records) }
            guard count == 1, let record = records?[0]?.pointee else { throw SwiftletError(.notFound, "\(step): it does not run") }
            var statistics = MachineStatistics(TypedParameters(pointer: record.params, count: record.nparams), serials: serials)
            statistics.cpuNanoseconds = try domain.processorTime()
            return statistics
        }
    }
}

extension DomainPointer {
    /// Nanoseconds of QEMU and its threads, from its /proc entry. libvirt's other count, cpu.time, is of a control group of its own, which
    /// QEMU has been moved out of.
    func processorTime() throws -> UInt64 {
        var info = virDomainInfo()
        guard virDomainGetInfo(pointer, &info) == 0 else { throw SwiftletError.libvirt("ask for the use of domain \(name)") }
        return info.cpuTime
    }

    /// Whether the machine has a display device.
    var hasScreen: Bool { get throws { try description()["devices"]?["video"] != nil } }
}

/// libvirt's list of named values.
struct TypedParameters {
    let pointer: virTypedParameterPtr?
    let count: Int32

    func number(_ name: String) -> UInt64? {
        var value: UInt64 = 0
        return virTypedParamsGetULLong(pointer, count, name, &value) == 1 ? value : nil
    }

    func count(_ name: String) -> Int? {
        var value: UInt32 = 0
        return virTypedParamsGetUInt(pointer, count, name, &value) == 1 ? Int(value) : nil
    }

    func text(_ name: String) -> String? {
        var value: UnsafePointer<CChar>?
        return virTypedParamsGetString(pointer, count, name, &value) == 1 ? value.map { String(cString: $0) } : nil
    }
}

extension MachineStatistics {
    /// - Parameter serials: of disks by libvirt's names of them.
    init(_ values: TypedParameters, serials: [String: String]) {
        self.init(residentBytes: (values.number("balloon.rss") ?? 0) << 10)
        // In KiB, from the guest's driver.
        if let total = values.number("balloon.available"), let unused = values.number("balloon.unused") {
            guestMemory = GuestMemory(total: total << 10, unused: unused << 10, available: values.number("balloon.usable").map { $0 << 10 })
        }
        for index in 0..<(values.count("block.count") ?? 0) {
            guard let name = values.text("block.\(index).name"), let serial = serials[name] else { continue }
            func number(_ key: String) -> UInt64 { values.number("block.\(index).\(key)") ?? 0 }
            var disk = Disk()
            disk.readBytes = number("rd.bytes")
            disk.readRequests = number("rd.reqs")
            disk.writtenBytes = number("wr.bytes")
            disk.writeRequests = number("wr.reqs")
            disk.capacity = number("capacity")
            disk.allocated = number("allocation")
            disks[serial] = disk
        }
    }
}
