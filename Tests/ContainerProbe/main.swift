// Drives GuestContainer from a script on standard input, one command a line and one answer a line, so that tests can run it
// in namespaces of its own, and a guest can run it as it is.
//
//   container-probe --scratch DIR --cgroup DIR [--layer SERIAL=IMAGE | --disk SERIAL=DEVICE]...
import Glibc

var session = ProbeSession(arguments: Array(CommandLine.arguments.dropFirst()))
while let line = readLine() {
    let answer = Array((session.answer(line.split(separator: " ").map(String.init)) + "\n").utf8)
    var written = 0
    while written < answer.count {
        let count = answer[written...].withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
        if count <= 0 { break }
        written += count
    }
}
session.end()
