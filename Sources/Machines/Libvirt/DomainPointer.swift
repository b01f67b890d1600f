import CLibvirt
import Errors
import FoundationEssentials
import Glibc

/// One virDomainPtr, used on the thread that got it.
struct DomainPointer {
    let pointer: virDomainPtr

    init(_ pointer: virDomainPtr) { self.pointer = pointer }

    /// Calls `body` with the machine's domain, or with nil when libvirt knows none.
    static func withDomain<Value>(
        _ id: MachineID, on connection: virConnectPtr, _ body: (DomainPointer?) throws -> Value
    ) throws -> Value {
        let bytes = withUnsafeBytes(of: id.uuid.uuid) { Array($0) }
        guard let pointer = virDomainLookupByUUID(connection, bytes) else {
            let error = SwiftletError.libvirt("look up machine \(id)")
            guard error.code == .notFound else { throw error }
            return try body(nil)
        }
        defer { virDomainFree(pointer) }
        return try body(DomainPointer(pointer))
    }

    var uuid: UUID? {
        // VIR_UUID_BUFLEN is 16.
        var bytes = uuid_t(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        let result = withUnsafeMutableBytes(of: &bytes) {
            virDomainGetUUID(pointer, $0.baseAddress?.assumingMemoryBound(to: UInt8.self))
        }
        return result == 0 ? UUID(uuid: bytes) : nil
    }

    var name: String { virDomainGetName(pointer).map { String(cString: $0) } ?? "" }

    var isActive: Bool { virDomainIsActive(pointer) == 1 }

    /// The domain as it runs now.
    func description(_ flags: virDomainXMLFlags = virDomainXMLFlags(0)) throws -> XMLTag {
        guard let text = virDomainGetXMLDesc(pointer, flags.rawValue) else { throw SwiftletError.libvirt("describe domain \(name)") }
        defer { free(text) }
        return try XMLTag(parsing: String(cString: text))
    }

    /// Whether QEMU emulates the machine's CPUs instead of running them by KVM.
    static func isEmulated(_ domain: XMLTag) -> Bool { domain.attribute("type") == "qemu" }

    func state() -> Machine.State {
        var (state, reason): (Int32, Int32) = (0, 0)
        guard virDomainGetState(pointer, &state, &reason, 0) == 0 else { return .other }
        return switch virDomainState(rawValue: UInt32(bitPattern: state)) {
        case VIR_DOMAIN_RUNNING, VIR_DOMAIN_BLOCKED: .running
        // By the disks' error policy, want of room is the only error that stops a machine.
        case VIR_DOMAIN_PAUSED: reason == Int32(VIR_DOMAIN_PAUSED_IOERROR.rawValue) ? .diskFull : .paused
        case VIR_DOMAIN_SHUTDOWN, VIR_DOMAIN_SHUTOFF: .stopping
        case VIR_DOMAIN_CRASHED: .crashed
        default: .other
        }
    }
}
