import Errors
import Foundation
import Testing

@testable import GuestAgent

/// What the kernel asks the agent's program for.
struct ModuleRequestTests {
    @Test func onlyTheKernelsWordsAreARequest() {
        #expect(ModuleRequest.isAsked(by: ["/sbin/modprobe", "-q", "--", "rtnl-link-bridge"]))
        for words in [["swiftlet-agent"], ["a", "-q", "--"], ["a", "-q", "--", "b", "c"], ["a", "--", "-q", "b"], []] {
            #expect(!ModuleRequest.isAsked(by: words), "\(words)")
        }
    }

    /// A container chooses part of the name.
    @Test(arguments: ["", ".", "..", "../lists/x", "a/b", "/etc/passwd", ".hidden", String(repeating: "a", count: 256)])
    func aNameThatLeadsElsewhereIsNone(name: String) {
        #expect(ModuleRequest.alias(name) == nil)
    }

    @Test func aDashIsAnUnderscore() {
        #expect(ModuleRequest.alias("rtnl-link-bridge") == "rtnl_link_bridge")
        #expect(ModuleRequest.alias("ip_set_hash:ip,port") == "ip_set_hash:ip,port")
        #expect(ModuleRequest.alias("--x--") == "__x__")
    }

    @Test func whatNoListNamesIsNotLoaded() throws {
        let directory = NSTemporaryDirectory() + "modules-\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: directory + "/aliases", withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try Data("absent.ko\n".utf8).write(to: URL(filePath: directory + "/aliases/listed"))
        try Data().write(to: URL(filePath: directory + "/aliases/empty"))
        let modules = KernelModules(directory: directory)
        defer { modules.close() }
        #expect(!modules.load(list: "aliases/unknown", Console()))
        #expect(!modules.load(list: "aliases/listed", Console()))
        #expect(modules.load(list: "aliases/empty", Console()))
    }
}
