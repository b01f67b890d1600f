import Foundation
import Runtime
import Testing

@testable import CloudInit

/// Every file of a seed, and what cloud-init makes of it.
@Suite(.timeLimit(.minutes(2))) struct SeedGoldenTests {
    private static let keys = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me@example\n\n  ssh-rsa AAAAB3Nza you@example  \n"

    @Test func metaData() throws {
        let request = try SeedSamples.request([
            "VirtletSSHKeys": Self.keys, "VirtletCloudInitMetaData": "level: 3\nlocal-hostname: other\n",
        ])
        try expectGolden(try #require(try SeedSamples.file("meta-data", request)), "meta-data")
        try expectGolden(
            try #require(try SeedSamples.file("openstack/latest/meta_data.json", request, .configDrive)), "meta_data.json")
    }

    @Test func theInstanceIsThePodsUnlessSaidOtherwise() throws {
        let own = try #require(try SeedSamples.file("meta-data", try SeedSamples.request()))
        #expect(own.contains("\"instance-id\" : \"\(SeedSamples.pod.uid)\""))
        let kept = try #require(try SeedSamples.file("meta-data", try SeedSamples.request(["swiftlet/instance-id": "db-0"])))
        #expect(kept.contains("\"instance-id\" : \"db-0\""))
    }

    @Test(arguments: [("bridge", SeedSamples.bridge), ("calico", SeedSamples.calico)])
    func networkIsRenderedAsThePodHasIt(_ name: String, _ network: AttachedNetwork) async throws {
        let request = try SeedSamples.request(network: network)
        let config = try #require(try SeedSamples.file("network-config", request))
        try expectGolden(config, "network-config-\(name)")
        try expectGolden(try await CloudInitProgram.rendered(Array(config.utf8), kind: "v2"), "rendered-\(name)")
        let data = try #require(try SeedSamples.file("openstack/latest/network_data.json", request, .configDrive))
        try expectGolden(data, "network_data-\(name).json")
        try expectGolden(try await CloudInitProgram.rendered(Array(data.utf8), kind: "openstack"), "rendered-openstack-\(name)")
    }

    @Test func dhcpOnEveryInterface() async throws {
        let request = try SeedSamples.request(["VirtletForceDHCPNetworkConfig": "true"])
        let config = try #require(try SeedSamples.file("network-config", request))
        try expectGolden(config, "network-config-dhcp")
        try expectGolden(try await CloudInitProgram.rendered(Array(config.utf8), kind: "v2"), "rendered-dhcp")
    }

    @Test func noNetworkConfigWhereNoneIsWanted() throws {
        for request in [try SeedSamples.request(["swiftlet/network-config": "none"]), try SeedSamples.request(network: nil)] {
            #expect(try Seed(request, format: .noCloud).files.map(\.path) == ["meta-data", "user-data", "vendor-data"])
            let paths = try Seed(request, format: .configDrive).files.map(\.path)
            #expect(!paths.contains("openstack/latest/network_data.json"))
        }
    }

    @Test func vendorDataDoesWhatThePodHas() async throws {
        let script = try #require(try SeedSamples.file("vendor-data", try SeedSamples.full()))
        try expectGolden(script, "vendor-data")
        // The kind that cloud-init takes it for, and what it does with it.
        let result = try await CloudInitProgram.python([
            "-c",
            """
            import sys
            from cloudinit import handlers
            from cloudinit.handlers import boot_hook
            text = sys.argv[1]
            print(handlers.type_from_starts_with(text))
            """, script,
        ])
        #expect(result.output == "text/cloud-boothook\n", "\(result.errors)")
        let json = try #require(try SeedSamples.file("openstack/latest/vendor_data.json", try SeedSamples.full(), .configDrive))
        let converted = try await CloudInitProgram.python([
            "-c", "import json, sys; from cloudinit import sources; print(sources.convert_vendordata(json.loads(sys.argv[1])), end='')",
            json,
        ])
        #expect(converted.output == script, "\(converted.errors)")
    }

    /// The reason for a boothook: a user's own list would take the place of vendor-data's.
    @Test func cloudInitDropsVendorDatasListsWhereUserDataHasOne() async throws {
        let result = try await CloudInitProgram.python([
            "-c",
            "from cloudinit import util; print(util.mergemanydict([{'mounts': [['a', '/a']]}, {'mounts': [['b', '/b']], 'bootcmd': ['c']}]))",
        ])
        #expect(result.output == "{'mounts': [['a', '/a']], 'bootcmd': ['c']}\n", "\(result.errors)")
    }
}
