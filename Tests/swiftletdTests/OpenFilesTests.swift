import Foundation
import Linux
import Testing

@testable import swiftletd

@Suite(.timeLimit(.minutes(2))) struct OpenFilesTests {
    /// The soft and the hard limit of the program once it serves, and its log.
    private static func limits(startedWith limits: String) async throws -> (soft: String, hard: String, log: String) {
        var found = ("", "", "")
        try await TestNode.with { node in
            let manager = try NotificationSocket(node.directory + "/notify")
            let daemon = try node.launch(
                under: ["/usr/bin/prlimit", "--nofile=\(limits)"], environment: ["NOTIFY_SOCKET": node.directory + "/notify"])
            defer { daemon.end() }
            #expect(try await manager.next() == "READY=1", "\(daemon.said)")
            let text = try String(contentsOfFile: "/proc/\(daemon.process.processIdentifier)/limits", encoding: .utf8)
            let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("Max open files") }).split(separator: " ")
            found = (String(line[3]), String(line[4]), daemon.said)
        }
        return found
    }

    @Test func theLimitOfOpenFilesIsRaisedToTheHardOne() async throws {
        let (soft, hard, log) = try await Self.limits(startedWith: "1024:15000")
        #expect(soft == "15000" && hard == "15000" && !log.contains("open files"), "\(log)")
    }

    @Test func aHardLimitThatIsTooLowIsNamedWithWhatToDo() async throws {
        let (soft, _, log) = try await Self.limits(startedWith: "512:1024")
        #expect(soft == "1024")
        #expect(log.contains("the hard limit of open files is 1024, enough for 63 pods") && log.contains("LimitNOFILE"), "\(log)")
    }

    /// The hard limit that systemd gives its services; a process without a service manager has the kernel's 4,096.
    @Test func aThousandContainersFitTheDefaultHardLimit() {
        #expect(OpenFiles.warning(DescriptorLimit(soft: 524_288, hard: 524_288)) == nil)
        #expect(OpenFiles.warning(DescriptorLimit(soft: 4096, hard: 4096)) != nil)
    }
}
