import CLibvirt
import Errors

/// What libvirt says about a failed call, as the cause of a `SwiftletError`.
public struct LibvirtError: Error, Sendable, Equatable, CustomStringConvertible {
    /// A virErrorNumber.
    public let number: UInt32
    /// A virErrorDomain: the part of libvirt that failed.
    public let domain: UInt32
    public let message: String
    /// The errno of a failed system call, where libvirt says that one failed.
    public var systemError: Int32?

    public var description: String { "libvirt: \(message) (error \(number), domain \(domain))" }

    /// The error of this thread's last libvirt call.
    static func last() -> LibvirtError {
        guard let error = virGetLastError()?.pointee else {
            return LibvirtError(number: VIR_ERR_INTERNAL_ERROR.rawValue, domain: 0, message: "an unknown error")
        }
        let message = error.message.map { String(cString: $0) } ?? "an unknown error"
        // virReportSystemError keeps the errno in the first number.
        let systemError = UInt32(error.code) == VIR_ERR_SYSTEM_ERROR.rawValue ? error.int1 : nil
        return LibvirtError(number: UInt32(error.code), domain: UInt32(error.domain), message: message, systemError: systemError)
    }

    /// Whether the connection to libvirtd is what broke: an error of the RPC layer, or a connection that was closed.
    var isConnectionLoss: Bool {
        switch virErrorNumber(number) {
        case VIR_ERR_INVALID_CONN, VIR_ERR_NO_CONNECT: true
        case VIR_ERR_SYSTEM_ERROR, VIR_ERR_INTERNAL_ERROR, VIR_ERR_RPC: virErrorDomain(domain) == VIR_FROM_RPC
        default: false
        }
    }

    var code: SwiftletError.Code {
        if isConnectionLoss { return .unavailable }
        return switch virErrorNumber(number) {
        case VIR_ERR_NO_DOMAIN: .notFound
        case VIR_ERR_DOM_EXIST: .alreadyExists
        case VIR_ERR_XML_ERROR, VIR_ERR_XML_DETAIL, VIR_ERR_INVALID_ARG: .invalidArgument
        case VIR_ERR_CONFIG_UNSUPPORTED, VIR_ERR_OPERATION_INVALID, VIR_ERR_DEVICE_MISSING, VIR_ERR_NO_SUPPORT: .failedPrecondition
        case VIR_ERR_AUTH_FAILED, VIR_ERR_ACCESS_DENIED, VIR_ERR_OPERATION_DENIED: .permissionDenied
        case VIR_ERR_OPERATION_TIMEOUT, VIR_ERR_AGENT_UNRESPONSIVE: .deadlineExceeded
        case VIR_ERR_NO_MEMORY: .resourceExhausted
        default: .internal
        }
    }
}

extension SwiftletError {
    /// The failure of this thread's last libvirt call.
    static func libvirt(_ step: String) -> SwiftletError {
        let cause = LibvirtError.last()
        return SwiftletError(cause.code, step, cause: cause)
    }

    var libvirtError: LibvirtError? { cause as? LibvirtError }
}
