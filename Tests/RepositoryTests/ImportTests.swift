import Foundation
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
            "StreamControl", "CloudInit",
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
            "AgentProtocol", "CloudInit",
        ]
        #expect(try Self.imports()["Runtime"]?.isDisjoint(with: above) == true)
    }

    /// Of what it says to a guest it is told by the contract's types.
    @Test func seedsKnowNoOtherHand() throws {
        let allowed: Set = ["CArchive", "CLinux", "CYAML", "Errors", "Foundation", "Glibc", "GuestHardware", "Linux", "Runtime"]
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
            "Synchronization",
        ]
        #expect(try Self.imports()["HostRuntime"]?.subtracting(allowed).isEmpty == true)
    }

    @Test func onlyTheDaemonNamesHandlers() throws {
        for handler in ["MicroVMRuntime", "NativeVMRuntime", "HostRuntime"] {
            #expect(try Self.importers(of: handler) == ["swiftletd"])
        }
    }
}
