import Glibc
import Linux

// Crashes, or ends otherwise, while it works on the data of the last argument: crash-fixture RECORD HOW NAME
let (path, how, name) = (CommandLine.arguments[1], CommandLine.arguments[2], CommandLine.arguments[3])
let record = try CrashRecord(path: path)
let innocent = record.mark(for: "innocent")
let guilty = record.mark(for: name)
innocent.during {}

// Who started it may have blocked signals.
var none = sigset_t()
sigemptyset(&none)
pthread_sigmask(SIG_SETMASK, &none, nil)

func end() {
    switch how {
    case "overflow": print(UInt64.max - UInt64(CommandLine.arguments.count) + 7)
    case "abort": abort()
    case "memory": print(UnsafePointer<UInt8>(bitPattern: CommandLine.arguments.count)?.pointee ?? 0)
    case "kill": kill(getpid(), SIGKILL)
    case "wait": while true { pause() }
    case "exit": exit(0)
    default: exit(2)
    }
}

func crash(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? { abort() }

switch how {
case "alone":
    await guilty.alone { abort() }
case "other-thread":
    // Another thread crashes, which works on nobody's data.
    guilty.during {
        var thread = pthread_t()
        pthread_create(&thread, nil, crash, nil)
        while true { pause() }
    }
default:
    innocent.during { guilty.during { end() } }
}
