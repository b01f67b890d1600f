import ArgumentParser
import DiskFormats
import Errors
import Glibc
import SwiftletVersion

extension DiskFormat: ExpressibleByArgument {}

/// Tells what a disk image is: swiftletd reads none of its bytes itself.
@main
struct SwiftletDiskinfo: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "swiftlet-diskinfo",
        abstract: "Tells format and size of the disk image on standard input, which is a file.",
        discussion: """
            The answer is one line of JSON: {"format":"qcow2","virtualSize":10737418240}, or {"refusal":"it has a backing file"} \
            for a file that no machine may have as a disk.
            """,
        version: swiftletVersion)

    @Option(help: "What the file is said to be, raw or qcow2; without it, its first bytes tell.")
    var format: DiskFormat?

    func run() throws {
        let path = try Confinement.apply()
        let answer: String
        do {
            let geometry = try DiskGeometry(of: DiskBytes(descriptor: STDIN_FILENO), at: path, saidToBe: format)
            answer = #"{"format":"\#(geometry.format.rawValue)","virtualSize":\#(geometry.virtualSize)}"#
        } catch let refusal as DiskRefusal {
            answer = #"{"refusal":"\#(Self.escaped(printable(refusal.reason, limit: 1000)))"}"#
        }
        print(answer)
    }

    /// Printable text has no control characters.
    private static func escaped(_ text: String) -> String {
        text.reduce(into: "") { result, character in
            if character == "\"" || character == "\\" { result.append("\\") }
            result.append(character)
        }
    }
}
