import Errors
import Images
import Testing

@testable import Pods
@testable import Runtime

/// What the client's words and the image's make together.
@Suite struct ContainerPlanTests {
    private func plan(
        _ image: ImageConfig = ImageConfig(entrypoint: ["/entry"], cmd: ["default", "args"]),
        _ change: (inout ContainerSpec) -> Void = { _ in }
    ) throws -> ContainerPlan {
        var spec = ContainerSpec(metadata: .init(name: "c", attempt: 0), image: "localhost/x:1")
        change(&spec)
        let stored = Image(id: "sha256:x", repoTags: [], repoDigests: [], size: 0, user: ImageUser(image.user), pinned: false)
        return try ContainerPlan(spec, rootfs: ImageRootfs(image: stored, config: image, content: .layers([])), hostname: "host")
    }

    @Test func anImageForAnotherMachineMakesNoContainer() throws {
        for image in [ImageConfig(architecture: "s390x", cmd: ["/x"]), ImageConfig(architecture: "amd64", os: "windows", cmd: ["/x"])] {
            let error = #expect(throws: SwiftletError.self) { try self.plan(image) }
            #expect(error?.code == .failedPrecondition, "\(error?.message ?? "")")
            #expect(error?.message.contains("\(image.os)/\(image.architecture)") == true)
        }
        // What says nothing runs anywhere.
        #expect(try plan(ImageConfig(architecture: "", os: "", cmd: ["/x"])).arguments == ["/x"])
    }

    @Test func theImagesVolumesArePathsOfTheContainer() throws {
        let image = ImageConfig(cmd: ["/x"], volumes: ["", "/", "/a/./b//", "../../c", "/d/../e", "rel"])
        #expect(try plan(image).volumes == ["/a/b", "/c", "/e", "/rel"])
    }

    @Test func theClientsCommandReplacesTheImages() throws {
        #expect(try plan().arguments == ["/entry", "default", "args"])
        #expect(try plan { $0.arguments = ["mine"] }.arguments == ["/entry", "mine"])
        #expect(try plan { $0.command = ["/other"] }.arguments == ["/other"])
        #expect(try plan { ($0.command, $0.arguments) = (["/other"], ["mine"]) }.arguments == ["/other", "mine"])
        #expect(try plan(ImageConfig(cmd: ["/bin/sh"])).arguments == ["/bin/sh"])
        #expect(try plan(ImageConfig(cmd: ["/bin/sh"])) { $0.arguments = ["/bin/ls"] }.arguments == ["/bin/ls"])
        let nothing = #expect(throws: SwiftletError.self) { try self.plan(ImageConfig()) }
        #expect(nothing?.code == .invalidArgument && nothing?.message.contains("no command") == true)
    }

    @Test func theClientsEnvironmentBeatsTheImages() throws {
        let image = ImageConfig(env: ["PATH=/image", "A=1", "EMPTY=", "BARE", "EQUALS=a=b"], cmd: ["/x"])
        let environment = try plan(image) { $0.environment = [.init(key: "A", value: "2"), .init(key: "HOSTNAME", value: "mine")] }
            .environment
        #expect(Set(environment) == ["PATH=/image", "HOSTNAME=mine", "A=2", "EMPTY=", "BARE=", "EQUALS=a=b"])
        #expect(try plan().environment.contains { $0.hasPrefix("PATH=/usr/local/sbin:") })
        #expect(try plan().environment.contains("HOSTNAME=host"))
        #expect(try !plan().environment.contains("TERM=xterm"))
        #expect(try plan { $0.terminal = true }.environment.contains("TERM=xterm"))
    }

    /// Where each entry is compared with all before it, this takes minutes.
    @Test(.timeLimit(.minutes(1))) func manyVariablesTakeNoLongerEach() throws {
        let image = ImageConfig(env: (0..<300_000).map { "V\($0)=\($0)" }, cmd: ["/x"])
        #expect(try plan(image).environment.count == 300_002)
    }

    @Test func usersAreNumbersOrNames() throws {
        typealias Identity = UserReference.Identity
        let cases: [(String, Identity, Identity?)] = [
            ("", .id(0), nil), ("1000", .id(1000), nil), ("00007", .id(7), nil), ("app", .name("app"), nil),
            ("1000:5", .id(1000), .id(5)), ("app:staff", .name("app"), .name("staff")), (":5", .id(0), .id(5)),
            ("4294967294", .id(.max - 1), nil), ("app:", .name("app"), nil),
        ]
        for (text, user, group) in cases {
            let reference = try UserReference(parsing: text, "USER")
            #expect(reference.user == user && reference.group == group, "\(text)")
        }
    }

    @Test(arguments: ["4294967295", "4294967296", "99999999999999999999", "-1", "+5", "0x0", "app:-1", "1:4294967295", "a:0x1"])
    func whatIsNoNumberAndLooksLikeOneIsRefused(_ text: String) {
        let error = #expect(throws: SwiftletError.self) { try self.plan(ImageConfig(cmd: ["/x"], user: text)) }
        #expect(error?.code == .invalidArgument && error?.message.contains("the image's USER") == true, "\(String(describing: error))")
        #expect(ImageUser(text).uid == nil || text.contains(":"))
    }

    @Test func directoryUserAndSignalAreTheImagesUnlessTheClientSays() throws {
        let image = ImageConfig(cmd: ["/x"], workingDir: "/image", user: "image:group", stopSignal: "SIGQUIT")
        let own = try plan(image)
        #expect(own.workingDirectory == "/image" && own.user.user == .name("image") && own.stopSignal == 3)
        let other = try plan(image) { ($0.workingDirectory, $0.user, $0.stopSignal) = ("/mine", "7", "SIGUSR1") }
        #expect(other.workingDirectory == "/mine" && other.user.user == .id(7) && other.stopSignal == 10)
        let plain = try plan()
        #expect(plain.workingDirectory == "/" && plain.user.user == .id(0) && plain.stopSignal == 15)
        let wrong = #expect(throws: SwiftletError.self) { try self.plan(ImageConfig(cmd: ["/x"], stopSignal: "SIGNONE")) }
        #expect(wrong?.code == .invalidArgument && wrong?.message.contains("SIGNONE") == true)
    }
}
