import Errors
import Testing

@testable import Images

@Suite struct ImageReferenceTests {
    private static let digest = "sha256:" + String(repeating: "ab", count: 32)

    @Test(arguments: [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("team/app", "docker.io/team/app:latest"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000/a/b/c:v1"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("[2001:db8::1]/app", "[2001:db8::1]/app:latest"),
        ("registry.example/a__b/c-d---e/f.g", "registry.example/a__b/c-d---e/f.g:latest"),
        ("Registry.Example/app", "Registry.Example/app:latest"),
        ("app@\(digest)", "docker.io/library/app@\(digest)"),
        ("app:tag@\(digest)", "docker.io/library/app@\(digest)"),
        ("quay.io/app:v1.2-3_4", "quay.io/app:v1.2-3_4"),
    ]) func isNormalised(_ text: String, _ expected: String) throws {
        #expect(try ImageReference(text).description == expected)
    }

    @Test(arguments: [
        "", ":", "/", "@", "app:", "App", "app//b", "a/", "-a", "a..b", "a___b", "a/../b", "a b", "a\u{0}", "app:-tag", "app:.tag",
        "app:ta/g",
        "app@sha256:short", "app@md5:" + String(repeating: "a", count: 32), "app@" + digest.uppercased(), "host:99999/app", "host:/app",
        "ho_st.x/app", "[::1/app", String(repeating: "a", count: 300), String(repeating: "a", count: 10_000),
        "app:" + String(repeating: "t", count: 129),
        String(repeating: "0a", count: 32), "http://host/app", "app:tag:tag",
    ]) func isRefused(_ text: String) {
        let error = #expect(throws: SwiftletError.self) { try ImageReference(text) }
        #expect(error?.code == .invalidArgument)
        #expect((error?.message.utf8.count ?? 0) < 600)
    }

    @Test(arguments: [
        ("localhost", true), ("localhost:5000", true), ("127.0.0.1", true), ("127.9.8.7:80", true), ("[::1]:5000", true),
        ("128.0.0.1", false),
        ("127.0.0.1.example.com", false), ("example.com", false), ("localhost.example", false),
    ]) func loopbackIsPlainHTTP(_ host: String, _ isPlain: Bool) {
        #expect(RegistryEndpoint.all(for: host, [])[0].origin == (isPlain ? "http://\(host)" : "https://\(host)"))
    }

    @Test func challengesAreParsed() {
        let bearer = AuthChallenge(#"Bearer realm="https://auth.example/token",service="reg, \"x\"",scope=repository:a:pull"#)
        #expect(bearer?.scheme == "bearer")
        #expect(bearer?.parameters == ["realm": "https://auth.example/token", "service": #"reg, "x""#, "scope": "repository:a:pull"])
        #expect(AuthChallenge("Basic")?.scheme == "basic")
        #expect(AuthChallenge("") == nil)
        #expect(AuthChallenge(#"Bearer realm="unterminated"#)?.parameters == ["realm": "unterminated"])
    }
}
