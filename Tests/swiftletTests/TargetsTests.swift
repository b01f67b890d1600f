import CRI
import Errors
import Testing

@testable import swiftlet

private func pod(_ id: String, _ name: String, attempt: UInt32 = 0, namespace: String = "default") -> CRIPodSandbox {
    .with {
        $0.id = id
        $0.metadata.name = name
        $0.metadata.namespace = namespace
        $0.metadata.attempt = attempt
    }
}

private func container(
    _ id: String, _ name: String, in pod: String, attempt: UInt32 = 0, _ state: CRIContainerState = .containerRunning
) -> CRIContainer {
    .with {
        $0.id = id
        $0.podSandboxID = pod
        $0.metadata.name = name
        $0.metadata.attempt = attempt
        $0.state = state
    }
}

@Suite struct TargetsTests {
    private let targets = Targets(
        pods: [
            pod("aa11", "web"), pod("aa22", "db"), pod("bb33", "db", namespace: "other"), pod("cc44", "job", attempt: 1),
            pod("cc40", "job"),
        ],
        containers: [
            container("ab77", "web", in: "aa11"), container("dd88", "sidecar", in: "aa11"), container("dd99", "sidecar", in: "aa22"),
            container("ee11", "main", in: "cc44", attempt: 2), container("ee10", "main", in: "cc44", attempt: 1),
        ])

    @Test(arguments: [
        ("aa11", "aa11"), ("aa2", "aa22"), ("bb", "bb33"), ("other/db", "bb33"), ("db/sidecar", "dd99"), ("ab", "ab77"),
    ])
    func anIdItsBeginningOrANameFindsOneThing(_ text: String, _ id: String) throws {
        #expect(try targets.resolve(text).id == id)
    }

    @Test func aPodComesBeforeItsOwnContainerOfTheSameName() throws {
        #expect(try targets.resolve("web").id == "aa11")
        #expect(try targets.resolve("web", as: .container).id == "ab77")
    }

    @Test func theLatestAttemptHasTheName() throws {
        #expect(try targets.resolve("main").id == "ee11")
        #expect(try targets.resolve("job").id == "cc44")
        #expect(try targets.resolve("ee10").id == "ee10")
    }

    @Test(arguments: ["aa", "db", "sidecar", "dd"])
    func whatCouldMeanSeveralIsRefusedWithTheirIds(_ text: String) throws {
        let error = try #require(throws: SwiftletError.self) { try targets.resolve(text) }
        #expect(error.code == .invalidArgument)
        #expect(error.message.contains("ambiguous"))
        #expect(targets.all.filter { error.message.contains($0.id) }.count == 2)
    }

    @Test(arguments: ["", "nothing", "aa111"])
    func whatMeansNothingIsNotFound(_ text: String) throws {
        #expect(try #require(throws: SwiftletError.self) { try targets.resolve(text) }.code == .notFound)
    }

    @Test func aPodIsNoContainer() throws {
        #expect(throws: SwiftletError.self) { try targets.resolve("aa22", as: .container) }
    }

    /// The pod's sandbox was made anew once; another pod has the same names but its uid.
    @Test func theAttemptBeforeIsTheLatestThatHasEndedAlsoInAnEarlierSandbox() throws {
        var (old, new, other) = (pod("aa11", "web"), pod("aa22", "web", attempt: 1), pod("bb33", "web"))
        (old.metadata.uid, new.metadata.uid, other.metadata.uid) = ("u1", "u1", "u2")
        let targets = Targets(
            pods: [old, new, other],
            containers: [
                container("c0", "main", in: "aa11", .containerExited), container("c1", "main", in: "aa11", attempt: 1, .containerExited),
                container("c2", "main", in: "aa22", attempt: 2, .containerCreated), container("c3", "main", in: "aa22", attempt: 3),
                container("cx", "main", in: "bb33", attempt: 1, .containerExited),
                container("cy", "side", in: "aa22", attempt: 1, .containerExited),
            ])
        #expect(try targets.previous(of: targets.resolve("c3")).id == "c1")
        #expect(try targets.previous(of: targets.resolve("c1")).id == "c0")
        for first in ["c0", "cx", "cy"] {
            let error = try #require(throws: SwiftletError.self) { try targets.previous(of: targets.resolve(first)) }
            #expect(error.code == .notFound && error.message.contains("\(first) ") && error.message.contains("no earlier attempt"))
        }
    }
}
