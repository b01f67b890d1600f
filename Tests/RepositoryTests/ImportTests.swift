import Foundation
import Support
import Testing

/// The walls between the rooms (docs/architecture.md), as far as imports show them.
@Suite(.timeLimit(.minutes(1))) struct ImportTests {
    /// The modules that each module of `Sources` and `agent` imports.
    private static func imports() throws -> [String: Set<String>] {
        var found: [String: Set<String>] = [:]
        for folder in ["Sources", "agent"] {
            let directory = Repository.root.appendingPathComponent(folder)
            for path in try FileManager.default.subpathsOfDirectory(atPath: directory.path) where path.hasSuffix(".swift") {
                let text = try String(contentsOf: directory.appendingPathComponent(path), encoding: .utf8)
                let names = text.split(separator: "\n").filter { $0.hasPrefix("import ") }.compactMap { $0.split(separator: " ").last }
                found[String(path.prefix { $0 != "/" }), default: []].formUnion(names.map(String.init))
            }
        }
        return found
    }

    private static func importers(of module: String) throws -> Set<String> {
        Set(try imports().filter { $0.value.contains(module) }.keys)
    }

    /// The guest's wire format is the vocabulary of those who speak with the guest, and of nobody else.
    @Test func onlyTheAgentAndItsSpeakersImportItsProtocol() throws {
        let allowed: Set = ["AgentClient", "MicroVMRuntime", "GuestAgent", "swiftlet-streamd", "swiftlet-bench"]
        #expect(try Self.importers(of: "AgentProtocol").subtracting(allowed).isEmpty)
    }

    @Test func theHeartKnowsNoHandButImages() throws {
        let hands: Set = [
            "MicroVMRuntime", "NativeVMRuntime", "HostRuntime", "PodMachine", "Machines", "AgentClient", "PodNetwork", "DHCP",
            "QemuGuestAgent", "Volumes",
            "Logs", "LogCollection",
            "StreamControl", "CloudInit", "YAML",
        ]
        let imports = try Self.imports()
        #expect(imports["Pods"]?.isDisjoint(with: hands) == true)
        #expect(imports["CRIServer"]?.isDisjoint(with: hands) == true)
    }

    @Test func theContractKnowsNeitherHeartNorHands() throws {
        let above: Set = [
            "Pods", "MicroVMRuntime", "NativeVMRuntime", "HostRuntime", "PodMachine", "Machines", "AgentClient", "PodNetwork", "DHCP",
            "QemuGuestAgent",
            "Volumes", "Images",
            "Logs",
            "LogCollection",
            "AgentProtocol", "CloudInit", "YAML",
        ]
        #expect(try Self.imports()["Runtime"]?.isDisjoint(with: above) == true)
    }

    /// Of what it says to a guest it is told by the contract's types.
    @Test func seedsKnowNoOtherHand() throws {
        let allowed: Set = ["CArchive", "CLinux", "Errors", "Foundation", "Glibc", "GuestHardware", "Linux", "Runtime", "YAML"]
        #expect(try Self.imports()["CloudInit"]?.subtracting(allowed).isEmpty == true)
    }

    /// It is joined to the guests by whoever uses it.
    @Test func theStreamServerKnowsNoPodAndNoGuest() throws {
        let others: Set = [
            "Pods", "CRIServer", "MicroVMRuntime", "Machines", "AgentClient", "AgentProtocol", "Runtime", "State", "CRI", "GRPC", "Linux",
        ]
        let imports = try Self.imports()
        #expect(imports["StreamServer"]?.isDisjoint(with: others) == true)
        #expect(imports["StreamFrames"]?.isDisjoint(with: others.union(["StreamServer", "StreamControl"])) == true)
    }

    /// It speaks with any server of the field's protocols, containerd's as well.
    @Test func theStreamClientKnowsNoServer() throws {
        let others: Set = ["StreamServer", "StreamControl", "CRI", "CRIClient", "GRPC", "Pods", "Runtime", "AgentProtocol", "Linux"]
        #expect(try Self.imports()["StreamClient"]?.isDisjoint(with: others) == true)
    }

    /// It runs where no machine can, and must not bring libvirt's libraries or the guest's words along.
    @Test func podsOnTheNodeKnowNoMachines() throws {
        let allowed: Set = [
            "CLinux", "Concurrency", "Errors", "Foundation", "Glibc", "Linux", "Logging", "Logs", "Runtime", "SeccompDefaults", "State",
            "Synchronization", "YAML",
        ]
        #expect(try Self.imports()["HostRuntime"]?.subtracting(allowed).isEmpty == true)
    }

    @Test func onlyTheDaemonNamesHandlers() throws {
        for handler in ["MicroVMRuntime", "NativeVMRuntime", "HostRuntime"] {
            #expect(try Self.importers(of: handler) == ["swiftletd"])
        }
    }

    /// A target that imports what it does not declare compiles where the other module was built before it, and fails in a fresh checkout.
    @Test func everyTargetDeclaresWhatItImports() throws {
        let ofTheToolchain: Set = [
            "Dispatch", "Foundation", "FoundationEssentials", "FoundationNetworking", "FoundationXML", "Glibc", "Synchronization",
            "Testing",
        ]
        let targets = try Self.targets()
        #expect(targets.count > 80)
        for target in targets {
            let declared = Set(target.dependencies.map { $0.name.replacing("-", with: "_") }).union(ofTheToolchain)
            let files = try Repository.files(".swift", below: target.directory).filter { path, _ in
                !target.exclude.contains { "\(path)/".hasPrefix("\(target.directory)/\($0)/") }
            }
            for (path, text) in files {
                let imported = text.matches(of: /(?m)^(?:@[\w()]+ )*(?:(?:public|package|internal|private) )?import (\w+)$/).map {
                    String($0.1)
                }
                let missing = Set(imported).subtracting(declared)
                #expect(missing.isEmpty, "\(path): \(target.name) does not declare \(missing)")
            }
        }
    }

    private struct DeclaredTarget: Decodable {
        /// A module or a product: `{"product": ["Logging", "swift-log", null, null]}`.
        struct Dependency: Decodable {
            let name: String

            private enum Kind: String, CodingKey { case byName, product, target }

            init(from decoder: any Decoder) throws {
                let container = try decoder.container(keyedBy: Kind.self)
                guard let kind = container.allKeys.first else {
                    throw DecodingError.dataCorrupted(
                        .init(codingPath: decoder.codingPath, debugDescription: "an unknown kind of dependency"))
                }
                var parts = try container.nestedUnkeyedContainer(forKey: kind)
                name = try parts.decode(String.self)
            }
        }

        let name: String
        let type: String
        let path: String?
        let exclude: [String]
        let dependencies: [Dependency]

        var directory: String { path ?? "\(type == "test" ? "Tests" : "Sources")/\(name)" }
    }

    private static func targets() throws -> [DeclaredTarget] {
        struct Package: Decodable { let targets: [DeclaredTarget] }
        let (process, output) = (ChildProcess(), Pipe())
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        // The lock is somebody's who builds while tests run.
        process.arguments = ["swift", "package", "--ignore-lock", "--package-path", Repository.root.path, "dump-package"]
        process.standardOutput = output
        try process.run()
        let text = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        return try JSONDecoder().decode(Package.self, from: text).targets
    }
}
