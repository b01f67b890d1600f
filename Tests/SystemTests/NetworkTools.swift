import Errors
import Foundation
import Linux
import Support

/// Debian's tools for networks, with busybox for the rest: what images of routers, firewalls and meshes have. No modprobe, no modules.
enum NetworkTools {
    private static let programs = [
        "/usr/sbin/ip", "/usr/sbin/nft", "/usr/sbin/conntrack", "/usr/sbin/xtables-legacy-multi", "/usr/sbin/xtables-nft-multi",
    ]

    static func image() async throws -> BuiltImage {
        var tar = TarBuilder()
        for directory in ["bin", "etc", "tmp", "run", "proc", "sys", "dev"] { tar.directory(directory) }
        try add("/bin/busybox", to: &tar)
        for applet in ["sh", "cat", "ls", "nc", "sleep", "grep", "cut", "sort", "wc", "unshare", "echo", "seq"] {
            tar.symlink("bin/\(applet)", to: "busybox")
        }
        var libraries: Set<String> = []
        for program in programs {
            try add(program, to: &tar)
            libraries.formUnion(try await needed(by: program))
        }
        for name in ["iptables", "ip6tables"] {
            for variant in ["legacy", "nft"] { tar.symlink("usr/sbin/\(name)-\(variant)", to: "xtables-\(variant)-multi") }
        }
        for library in libraries.sorted() { try add(library, to: &tar) }
        let extensions = "/usr/lib/x86_64-linux-gnu/xtables"
        for name in try FileManager.default.contentsOfDirectory(atPath: extensions).sorted() where name.hasSuffix(".so") {
            try add("\(extensions)/\(name)", to: &tar)
        }
        return try OCIImageBuilder(layers: [tar.finished()]).build()
    }

    private static func add(_ path: String, to tar: inout TarBuilder) throws {
        tar.file(String(path.dropFirst()), try Data(contentsOf: URL(fileURLWithPath: path)), mode: 0o755)
    }

    /// The libraries and the loader, as ldd(1) finds them.
    private static func needed(by program: String) async throws -> [String] {
        let answer = try await Spawn("/usr/bin/ldd", [program]).run()
        guard answer.succeeded else { throw SwiftletError(.internal, "ldd \(program): \(answer.errorText)") }
        return answer.outputText.split(whereSeparator: \.isWhitespace).filter { $0.hasPrefix("/") }.map(String.init)
    }
}
