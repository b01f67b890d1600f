import CRI
import SwiftProtobuf
import Testing

/// One line of a `service` block of the interface's file.
private struct DeclaredMethod: Hashable {
    var service: String
    var name: String
    var request: String
    var response: String
    var streaming: Bool

    init(service: String, name: String, request: String, response: String, streaming: Bool) {
        self.service = service
        self.name = name
        self.request = request
        self.response = response
        self.streaming = streaming
    }

    init<Request, Response>(_ method: RPCDescriptor<Request, Response>) {
        self.init(
            service: method.service, name: method.name, request: Self.local(Request.protoMessageName),
            response: Self.local(Response.protoMessageName), streaming: method.streaming)
    }

    private static func local(_ messageName: String) -> String {
        String(messageName.split(separator: ".").last ?? "")
    }
}

private func declaredMethods(_ file: String) throws -> [DeclaredMethod] {
    var service = ""
    var methods: [DeclaredMethod] = []
    for line in try protoText(file).split(separator: "\n") {
        let words = line.split { " (){;".contains($0) }.map(String.init)
        if words.first == "service" { service = words[1] }
        guard words.first == "rpc", words.count >= 5, words[3] == "returns" else { continue }
        let streaming = words[4] == "stream"
        methods.append(
            DeclaredMethod(
                service: service, name: words[1], request: words[2], response: words[streaming ? 5 : 4], streaming: streaming))
    }
    return methods
}

@Suite struct MethodTableTests {
    private static let runtime: [DeclaredMethod] = [
        DeclaredMethod(RuntimeRPC.version),
        DeclaredMethod(RuntimeRPC.runPodSandbox),
        DeclaredMethod(RuntimeRPC.stopPodSandbox),
        DeclaredMethod(RuntimeRPC.removePodSandbox),
        DeclaredMethod(RuntimeRPC.podSandboxStatus),
        DeclaredMethod(RuntimeRPC.listPodSandbox),
        DeclaredMethod(RuntimeRPC.streamPodSandboxes),
        DeclaredMethod(RuntimeRPC.createContainer),
        DeclaredMethod(RuntimeRPC.startContainer),
        DeclaredMethod(RuntimeRPC.stopContainer),
        DeclaredMethod(RuntimeRPC.removeContainer),
        DeclaredMethod(RuntimeRPC.listContainers),
        DeclaredMethod(RuntimeRPC.streamContainers),
        DeclaredMethod(RuntimeRPC.containerStatus),
        DeclaredMethod(RuntimeRPC.updateContainerResources),
        DeclaredMethod(RuntimeRPC.reopenContainerLog),
        DeclaredMethod(RuntimeRPC.execSync),
        DeclaredMethod(RuntimeRPC.exec),
        DeclaredMethod(RuntimeRPC.attach),
        DeclaredMethod(RuntimeRPC.portForward),
        DeclaredMethod(RuntimeRPC.containerStats),
        DeclaredMethod(RuntimeRPC.listContainerStats),
        DeclaredMethod(RuntimeRPC.streamContainerStats),
        DeclaredMethod(RuntimeRPC.podSandboxStats),
        DeclaredMethod(RuntimeRPC.listPodSandboxStats),
        DeclaredMethod(RuntimeRPC.streamPodSandboxStats),
        DeclaredMethod(RuntimeRPC.updateRuntimeConfig),
        DeclaredMethod(RuntimeRPC.status),
        DeclaredMethod(RuntimeRPC.checkpointContainer),
        DeclaredMethod(RuntimeRPC.checkpointPod),
        DeclaredMethod(RuntimeRPC.restorePod),
        DeclaredMethod(RuntimeRPC.getContainerEvents),
        DeclaredMethod(RuntimeRPC.listMetricDescriptors),
        DeclaredMethod(RuntimeRPC.listPodSandboxMetrics),
        DeclaredMethod(RuntimeRPC.streamPodSandboxMetrics),
        DeclaredMethod(RuntimeRPC.runtimeConfig),
        DeclaredMethod(RuntimeRPC.updatePodSandboxResources),
    ]
    private static let image: [DeclaredMethod] = [
        DeclaredMethod(ImageRPC.listImages),
        DeclaredMethod(ImageRPC.streamImages),
        DeclaredMethod(ImageRPC.imageStatus),
        DeclaredMethod(ImageRPC.pullImage),
        DeclaredMethod(ImageRPC.removeImage),
        DeclaredMethod(ImageRPC.imageFsInfo),
    ]

    @Test func theTableIsTheInterfacesMethodForMethod() throws {
        let declared = try declaredMethods("runtime/v1/api.proto")
        #expect(declared.count == 43)
        #expect(Self.runtime + Self.image == declared)
        #expect(Self.runtime.count == 37)
        #expect(Self.image.count == 6)
    }

    @Test func theNamesAreListedCompletelyAndInOrder() {
        #expect(RuntimeRPC.allNames == Self.runtime.map(\.name))
        #expect(ImageRPC.allNames == Self.image.map(\.name))
    }

    /// The list RPCs that the interface serves as streams as well, and the events.
    @Test func onlyTheListsMadeForItAndTheEventsStream() {
        let streaming = (Self.runtime + Self.image).filter(\.streaming).map(\.name)
        #expect(
            streaming.sorted() == [
                "GetContainerEvents", "StreamContainerStats", "StreamContainers", "StreamImages", "StreamPodSandboxMetrics",
                "StreamPodSandboxStats", "StreamPodSandboxes",
            ])
    }

    @Test func bothVersionsOfTheInterfaceHaveTheirOwnPath() {
        #expect(RuntimeRPC.version.path(version: .v1) == "/runtime.v1.RuntimeService/Version")
        #expect(RuntimeRPC.version.path(version: .v1alpha2) == "/runtime.v1alpha2.RuntimeService/Version")
        #expect(ImageRPC.pullImage.path() == "/runtime.v1.ImageService/PullImage")
    }

    @Test func theOperatorsMethodsAreTheirContracts() throws {
        let own = [
            DeclaredMethod(OperatorRPC.loadImage), DeclaredMethod(OperatorRPC.describeMachine), DeclaredMethod(OperatorRPC.controlMachine),
            DeclaredMethod(OperatorRPC.screenshot), DeclaredMethod(OperatorRPC.checkDisk), DeclaredMethod(OperatorRPC.addAuthorizedKeys),
        ]
        #expect(try declaredMethods("operator/v1/operator.proto") == own)
        #expect(OperatorRPC.allNames == own.map(\.name))
        for version in CRIVersion.allCases {
            #expect(OperatorRPC.loadImage.path(version: version) == "/swiftlet.operator.v1.Operator/LoadImage")
        }
    }
}
