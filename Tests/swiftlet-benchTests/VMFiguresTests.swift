import Foundation
import Testing

@testable import swiftlet_bench

@Suite struct VMFiguresTests {
    @Test func aMachineByItselfKeepsItsDevicesAndNothingOfLibvirt() {
        let arguments = EmulatorArguments([
            "-name", "guest=swiftlet-1,debug-threads=on", "-S", "-object",
            #"{"qom-type":"secret","id":"masterKey0","file":"/x/master-key.aes"}"#, "-machine", "pc-q35-7.2,memory-backend=pc.ram", "-m",
            "128",
            "-object", #"{"qom-type":"memory-backend-memfd","id":"pc.ram","share":true,"size":134217728}"#, "-nodefaults", "-chardev",
            "socket,id=charmonitor,fd=40,server=on,wait=off", "-mon", "chardev=charmonitor,id=monitor,mode=control", "-no-shutdown",
            "-blockdev", #"{"driver":"file","filename":"/state/vms/p/c/root.qcow2","node-name":"libvirt-1-storage"}"#,
            "-netdev", #"{"type":"tap","fd":"43","id":"hostnet0"}"#, "-add-fd", "set=0,fd=39,opaque=serial0-log", "-chardev",
            "socket,id=charserial0,fd=38,server=on,wait=off,logfile=/dev/fdset/0,logappend=on", "-device",
            #"{"driver":"isa-serial","chardev":"charserial0","id":"serial0","index":0}"#, "-chardev",
            "socket,id=channel0,path=/run/vms/c/qemu/qga,server=on,wait=off", "-vnc",
            "vnc=unix:/run/vms/c/qemu/vnc,audiodev=audio1", "-sandbox", "on,obsolete=deny", "-msg", "timestamp=on",
        ])
        #expect(
            arguments.alone(in: "/own", insteadOf: "/state/vms/p/c", tap: "tap7") == [
                "-name", "guest=swiftlet-1,debug-threads=on", "-machine", "pc-q35-7.2,memory-backend=pc.ram", "-m", "128",
                "-object", #"{"qom-type":"memory-backend-memfd","id":"pc.ram","share":true,"size":134217728}"#, "-nodefaults",
                "-blockdev", #"{"driver":"file","filename":"/own/root.qcow2","node-name":"libvirt-1-storage"}"#,
                "-netdev", "tap,id=hostnet0,ifname=tap7,script=no,downscript=no", "-chardev", "file,id=charserial0,path=/own/console.log",
                "-device", #"{"driver":"isa-serial","chardev":"charserial0","id":"serial0","index":0}"#,
                "-chardev", "socket,id=channel0,path=/own/channel0,server=on,wait=off", "-vnc", "vnc=unix:/own/vnc,audiodev=audio1",
            ])
    }

    private static func bytes(_ count: Int) -> String {
        String(String(repeating: String(repeating: "0123456789", count: 10).dropLast() + "\n", count: count / 100 + 1).prefix(count))
    }

    @Test func aConsolesBytesAreWholeOrTheyAreNot() throws {
        let console = SerialConsole(bytes: 1000)
        func outcome(_ bytes: String, tail: String = "]]]\nflood: 10.25 12.75\n") -> (time: Duration, isWhole: Bool)? {
            console.outcome(in: Array(("boot\r\n[[[\n" + bytes + tail).utf8))
        }
        let whole = try #require(outcome(Self.bytes(1000)))
        #expect(whole.isWhole && whole.time == .milliseconds(2500))
        let missing = try #require(outcome(Self.bytes(900)))
        #expect(!missing.isWhole)
        let changed = try #require(outcome(Self.bytes(500) + "x" + Self.bytes(1000).dropFirst(501)))
        #expect(!changed.isWhole)
        #expect(outcome(Self.bytes(1000), tail: "") == nil)
        #expect(outcome(Self.bytes(1000), tail: "]]]\nflood: 10.25") == nil)
    }

    @Test func aLogsPartsAreOneLine() {
        let log = "2026-01-01T00:00:00Z stdout P one \n2026-01-01T00:00:00Z stdout F two\n2026-01-01T00:00:00Z stdout F \n"
        #expect(SerialConsole.output(ofLog: Array(log.utf8)) == Array("one two\n\n".utf8))
    }

    @Test func aMachineThatLosesOutputMissesItsTarget() {
        var results = Measurements()
        (results.vm.consoleTime, results.vm.rawConsoleTime) = (.seconds(11), .seconds(10))
        func target() -> Target? { Target.all(results).first { $0.promise.hasPrefix("VM, console") } }
        #expect(target()?.verdict == "missed" && target()?.measured == "1.10x, not whole")
        results.vm.isConsoleWhole = true
        #expect(target()?.verdict == "ok" && target()?.measured == "1.10x")
        results.vm.memory = 80_000_001
        #expect(Target.all(results).first { $0.promise.hasPrefix("VM, QEMU") }?.verdict == "missed")
    }

    @Test func translatedCodeIsWhatCanBeWrittenAndRun() {
        let mappings = """
            7f1b39000000-7f1b3bfff000 rwxp 00000000 00:00 0
            Size:              49148 kB
            Rss:               40000 kB
            Pss:               40000 kB
            VmFlags: rd wr ex mr mw me sd
            55d0c0000000-55d0c0400000 r-xp 00100000 fe:00 123                        /usr/bin/qemu-system-x86_64
            Pss:                2798 kB
            7f1b3c000000-7f1b3c001000 rwxp 00000000 00:00 0
            Pss:                   4 kB
            """
        #expect(ProcessMemory.translatedCode(inMappings: mappings) == 40_004 << 10)
        #expect(ProcessMemory.translatedCode(inMappings: "") == 0)
    }

    @Test func processorTimeIsComparedToo() {
        var figures = VMFigures()
        #expect(figures.consoleProcessorRatio == nil)
        (figures.consoleProcessorTime, figures.rawConsoleProcessorTime) = (12, 10)
        #expect(figures.consoleProcessorRatio == 1.2)
    }
}
