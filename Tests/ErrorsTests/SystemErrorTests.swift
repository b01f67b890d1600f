import Errors
import Glibc
import Testing

/// The one table from errno to the codes clients see.
@Suite struct SystemErrorTests {
    @Test(arguments: [
        (ENOENT, SwiftletError.Code.notFound), (ENODEV, .notFound), (ESRCH, .notFound), (EEXIST, .alreadyExists),
        (EPERM, .permissionDenied), (EACCES, .permissionDenied), (EINVAL, .invalidArgument), (ENAMETOOLONG, .invalidArgument),
        (ENOSPC, .resourceExhausted), (EDQUOT, .resourceExhausted),
        (EMFILE, .resourceExhausted), (EFBIG, .resourceExhausted), (ENOMEM, .resourceExhausted), (ENOSYS, .unimplemented),
        (EOPNOTSUPP, .unimplemented), (ETIMEDOUT, .deadlineExceeded), (EAGAIN, .unavailable), (ECONNREFUSED, .unavailable),
        (EBUSY, .failedPrecondition), (EROFS, .failedPrecondition), (EIO, .internal),
    ]) func everyErrnoHasOneCode(_ number: Int32, _ code: SwiftletError.Code) {
        let error = SwiftletError.system("open /x", errno: number)
        #expect(error.code == code)
        #expect(error.systemErrno == number)
        #expect(error.during("pull").systemErrno == number)
    }

    @Test func theMessageHasTheStepTheTextAndTheNumber() {
        errno = ENOSPC
        #expect(SwiftletError.system("write /x").description == "write /x: No space left on device (errno 28)")
    }
}
