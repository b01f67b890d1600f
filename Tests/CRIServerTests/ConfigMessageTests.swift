import CRI
import Foundation
import Images
import Runtime
import Testing

@testable import CRIServer
@testable import Pods

/// What verbose answers say of what was asked for.
@Suite struct ConfigMessageTests {
    @Test func aPodsConfigurationComesBack() throws {
        let config = CRIPodSandboxConfig.with {
            ($0.metadata.name, $0.metadata.uid, $0.metadata.namespace, $0.metadata.attempt) = ("pod", "u", "default", 2)
            ($0.hostname, $0.logDirectory, $0.labels) = ("host", "/var/log/pods/x", ["app": "a"])
            $0.dnsConfig.servers = ["10.0.0.10"]
            $0.portMappings = [.with { ($0.protocol, $0.containerPort, $0.hostPort) = (.udp, 53, 5300) }]
            $0.linux.cgroupParent = "/kubepods/pod1"
            $0.linux.sysctls = ["net.core.somaxconn": "1024"]
            $0.linux.securityContext.namespaceOptions.pid = .container
            $0.linux.overhead.memoryLimitInBytes = 64 << 20
            $0.linux.resources.cpuShares = 512
        }
        #expect(try ConfigMessage.config(SandboxRequest.spec(config, handler: "")) == config)
    }

    @Test func aContainersConfigurationIsJSONWithNumbersAndText() throws {
        let config = CRIContainerConfig.with {
            ($0.metadata.name, $0.image.image, $0.command) = ("web", "localhost/a:1", ["/run"])
            $0.envs = [.with { ($0.key, $0.value) = ("PORT", Data("80".utf8)) }]
            $0.mounts = [.with { ($0.containerPath, $0.image.image, $0.readonly) = ("/m", "localhost/b:1", true) }]
            $0.linux.resources.memoryLimitInBytes = 256 << 20
            $0.linux.securityContext.runAsUser.value = 1000
        }
        let value = ConfigMessage.value(try ContainerRequest.spec(config))
        #expect(value["metadata"]?["name"] == "web")
        #expect(value["envs"] == .array([.object(["key": "PORT", "value": "80"])]))
        #expect(value["linux"]?["resources"]?["memory_limit_in_bytes"] == .integer(256 << 20))
        #expect(value["linux"]?["security_context"]?["run_as_user"]?["value"] == 1000)
        #expect(value["mounts"]?.array?.first?["image"]?["image"] == "localhost/b:1")
    }

    @Test func anImagesConfigurationHasItsOwnNames() {
        let value = ConfigMessage.value(ImageConfig(architecture: "amd64", cmd: ["/run"], volumes: ["/data"], diffIDs: ["sha256:d"]))
        #expect(value["config"]?["Cmd"] == .array(["/run"]) && value["config"]?["Volumes"]?["/data"] == .object([:]))
        #expect(value["os"] == "linux" && value["rootfs"]?["diff_ids"] == .array(["sha256:d"]))
    }

    @Test func aPodsDetailsHaveTheirTypes() throws {
        var sandbox = SandboxSnapshot(
            id: "p", spec: SandboxSpec(metadata: .init(name: "pod", uid: "u", namespace: "default", attempt: 0)), state: .reserved,
            createdAt: 1)
        sandbox.details = ["pid": 7]
        sandbox.pendingReleases = ["tap"]
        let details = SandboxMessage.details(sandbox)
        #expect(details["pid"] == 7 && details["state"] == "reserved" && details["pendingReleases"] == .array(["tap"]))
        #expect(details["config"]?["metadata"]?["name"] == "pod")
    }

    /// What scanners look for, what the kubelet compares, and what people read.
    @Test func anImageIsSaidByDigestAndByID() {
        var spec = ContainerSpec(metadata: .init(name: "web", attempt: 0), image: "a")
        spec.imageDigest = "localhost/a@sha256:d"
        var mount = ContainerMount(containerPath: "/m")
        (mount.image, mount.imageReference) = ("localhost/b:1", "localhost/b@sha256:e")
        spec.mounts = [mount]
        let container = ContainerSnapshot(
            id: "c", sandboxID: "p", spec: spec, imageID: "sha256:i", state: .created, createdAt: 1, logPath: "", stopSignal: 15)
        let status = ContainerMessage.status(container)
        #expect(status.imageRef == "localhost/a@sha256:d" && status.imageID == "sha256:i")
        #expect(status.mounts[0].image.imageRef == "localhost/b@sha256:e")
        #expect(ContainerMessage.item(container).imageRef == "sha256:i")
    }
}
