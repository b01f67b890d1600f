import Glibc

extension CRILogDecoder.Piece {
    /// Writes what the container wrote to where it wrote it; a malformed line goes to standard error as it is.
    func print() {
        switch self {
        case .output(.stdout, let bytes): Terminal.write(bytes, to: STDOUT_FILENO)
        case .output(.stderr, let bytes): Terminal.write(bytes, to: STDERR_FILENO)
        case .malformed(let bytes): Terminal.write(bytes, to: STDERR_FILENO)
        }
    }
}
