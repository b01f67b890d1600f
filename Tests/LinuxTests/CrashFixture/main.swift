import Glibc
import Linux

// Crashes, or ends otherwise, while it works on the data of "guilty": crash-fixture RECORD HOW
let record = try CrashRecord(path: CommandLine.arguments[1])
let innocent = record.mark(for: "innocent")
innocent.during {}
var gone: CrashMark? = record.mark(for: "gone")
gone?.begin()
gone = nil
let guilty = record.mark(for: "guilty")
guilty.begin()
switch CommandLine.arguments[2] {
case "overflow": print(UInt64.max - UInt64(CommandLine.arguments.count) + 7)
case "abort": abort()
case "memory": print(UnsafePointer<UInt8>(bitPattern: CommandLine.arguments.count)?.pointee ?? 0)
case "kill": kill(getpid(), SIGKILL)
case "exit": exit(0)
default: exit(2)
}
