import Glibc

/// An errno value as the cause of a `SwiftletError`.
public struct SystemError: Error, Sendable, Equatable, CustomStringConvertible {
    public let number: Int32

    public init(_ number: Int32) { self.number = number }

    /// The C library's text and the number: "No such file or directory (errno 2)".
    public var description: String { "\(String(cString: strerror(number))) (errno \(number))" }

    /// The nearest of the error codes that clients see.
    public var code: SwiftletError.Code {
        switch number {
        case ENOENT, ENODEV, ENXIO, ESRCH, EADDRNOTAVAIL: .notFound
        case EEXIST: .alreadyExists
        case EPERM, EACCES: .permissionDenied
        case EINVAL, ENAMETOOLONG, ERANGE: .invalidArgument
        case ENOMEM, ENOSPC, EMFILE, ENFILE, EDQUOT, EFBIG: .resourceExhausted
        case EOPNOTSUPP, ENOSYS: .unimplemented
        case ETIMEDOUT: .deadlineExceeded
        case EAGAIN, ECONNREFUSED, ENETDOWN, ENETUNREACH, EHOSTUNREACH: .unavailable
        case EBUSY, EROFS: .failedPrecondition
        default: .internal
        }
    }
}

extension SwiftletError {
    /// A failed system call. `number` defaults to the calling thread's errno, so build the error before any other call.
    public static func system(_ step: String, errno number: Int32 = errno) -> SwiftletError {
        let cause = SystemError(number)
        return SwiftletError(cause.code, step, cause: cause)
    }

    /// The errno underneath, if a system call was the cause.
    public var systemErrno: Int32? { (cause as? SystemError)?.number }
}
