import CRI
import Errors
import Runtime
import Testing

@testable import CRIServer

struct MountRequestTests {
    private func mount(_ change: (inout CRIMount) -> Void) -> CRIMount {
        .with {
            $0.containerPath = "/data"
            $0.hostPath = "/srv"
            change(&$0)
        }
    }

    private func refuses(_ text: String, sourceLocation: SourceLocation = #_sourceLocation, _ change: (inout CRIMount) -> Void) {
        let message = mount(change)
        let error = #expect(throws: SwiftletError.self, sourceLocation: sourceLocation) { try MountRequest.mounts([message]) }
        #expect(
            error?.code == .invalidArgument && error?.message.contains(text) == true, "\(error?.message ?? "")",
            sourceLocation: sourceLocation)
    }

    @Test func combinationsThatMakeNoSenseAreRefusedByTheirField() {
        refuses("container_path") { $0.containerPath = "" }
        refuses("container_path") { $0.containerPath = "data" }
        refuses("container_path") { $0.containerPath = "/" }
        refuses("container_path") { $0.containerPath = "/./" }
        refuses("container_path") { $0.containerPath = "/a/../b" }
        refuses("container_path") { $0.containerPath = "/a\0" }
        refuses("host_path") { $0.hostPath = "" }
        refuses("host_path") { $0.hostPath = "srv" }
        refuses("host_path") { $0.hostPath = "/srv/../etc" }
        refuses("host_path") { $0.hostPath = "/" + String(repeating: "a", count: 5000) }
        refuses("propagation 7") { $0.propagation = .UNRECOGNIZED(7) }
        refuses("recursive_read_only needs readonly") { $0.recursiveReadOnly = true }
        refuses("PROPAGATION_PRIVATE") {
            $0.readonly = true
            $0.recursiveReadOnly = true
            $0.propagation = .propagationHostToContainer
        }
        refuses("mount_options") { $0.mountOptions = ["noexec", "upperdir=/"] }
        refuses("exclude each other") { $0.image.image = "localhost/a:1" }
        refuses("image needs readonly") {
            $0.hostPath = ""
            $0.image.image = "localhost/a:1"
        }
        refuses("image_sub_path needs image") { $0.imageSubPath = "a" }
        for path in ["../a", "a/../..", "/a", "a\0"] {
            refuses("image_sub_path") {
                $0.hostPath = ""
                $0.image.image = "localhost/a:1"
                $0.imageSubPath = path
            }
        }
    }

    @Test func idRangesAreCheckedAndPaired() {
        let range = CRIIDMapping.with { $0.length = 1 }
        refuses("together") { $0.uidMappings = [range] }
        for bad in [
            CRIIDMapping(),
            .with {
                $0.hostID = .max; $0.length = 1
            },
            .with {
                $0.containerID = 1 << 31; $0.length = 1 << 31
            },
        ] {
            refuses("no range") {
                $0.uidMappings = [range]
                $0.gidMappings = [bad]
            }
        }
        // The kernel's own identity map, of all ids but the last, which is nobody's.
        let all = CRIIDMapping.with { $0.length = .max }
        #expect(throws: Never.self) {
            try MountRequest.mounts([mount { ($0.uidMappings, $0.gidMappings) = ([all], [all]) }])
        }
        refuses("340") {
            $0.uidMappings = Array(repeating: range, count: 341)
            $0.gidMappings = [range]
        }
    }

    @Test func aMountIsEchoedAsItWasAsked() throws {
        let range = CRIIDMapping.with {
            $0.hostID = 65536
            $0.length = 65536
        }
        let asked = [
            mount { $0.propagation = .propagationHostToContainer },
            mount {
                $0.readonly = true
                $0.recursiveReadOnly = true
                $0.selinuxRelabel = true
                $0.mountOptions = ["noexec"]
                $0.uidMappings = [range]
                $0.gidMappings = [range]
            },
            mount {
                $0.hostPath = ""
                $0.readonly = true
                $0.image.image = "localhost/a:1"
                $0.imageSubPath = "a/b"
            },
        ]
        #expect(try MountRequest.mounts(asked).map(MountMessage.mount) == asked)
        #expect(throws: SwiftletError.self) { try MountRequest.mounts(Array(repeating: self.mount { _ in }, count: 513)) }
    }
}
