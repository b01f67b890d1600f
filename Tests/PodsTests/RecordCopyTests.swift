import Runtime
import State
import Testing

@testable import Pods

@Suite struct RecordCopyTests {
    /// The benchmark lists thousands of containers that differ in nothing else.
    @Test func aCopyDiffersInIdNameAndAge() throws {
        var spec = ContainerSpec(metadata: .init(name: "web", attempt: 2), image: "localhost/a:1")
        spec.labels = ["app": "web"]
        let document = ContainerDocument(
            spec: spec, imageID: "sha256:i", state: .running(startedAt: 5), logPath: "/l", stopSignal: 15, user: nil)
        let record = ContainerRecord(id: "c", sandboxID: "p", state: "running", createdAt: 1, document: try document.stored())
        let copy = try record.copy(id: "d", name: "copy", createdAt: 2)
        #expect((copy.id, copy.sandboxID, copy.state, copy.createdAt) == ("d", "p", "running", 2))
        let decoded = try ContainerDocument(stored: copy.document)
        var expected = spec
        expected.metadata.name = "copy"
        #expect(decoded.spec == expected && decoded.state == document.state && decoded.imageID == document.imageID)
        #expect(try ContainerDocument(stored: record.document).spec == spec)
    }
}
