import CFuzz
import Glibc

private let target: FuzzTarget = {
    let name = getenv("SWIFTLET_FUZZ_TARGET").map { String(cString: $0) } ?? ""
    guard let target = FuzzTarget.all.first(where: { $0.name == name }) else {
        print("SWIFTLET_FUZZ_TARGET is none of \(FuzzTarget.all.map(\.name).joined(separator: " "))")
        exit(2)
    }
    return target
}()

/// What libFuzzer's library calls by this name.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
    target.run(Array(UnsafeBufferPointer(start: data, count: size)))
    return 0
}

/// libFuzzer's program: scripts/fuzz builds it, and only then. SWIFTLET_FUZZ_TARGET names the target.
@main
enum FuzzEntry {
    static func main() {
        // SwiftPM gives each program a main function of its own, so that libFuzzer's is not linked.
        var count = CommandLine.argc
        var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv
        exit(LLVMFuzzerRunDriver(&count, &arguments) { fuzz($0, $1) })
    }
}
